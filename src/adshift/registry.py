"""The data sets by name: the module of each. The schema of params.yaml takes the names from here, too.

Apart from `adshift.datasets`, which every stage would run otherwise, since every stage reads params.yaml.
"""

DATASETS = {
    "sample": "adshift.datasets.sample",
    "mvtec": "adshift.datasets.mvtec",
    "mvtec_ad_2": "adshift.datasets.mvtec_ad_2",
    "visa": "adshift.datasets.visa",
    "btad": "adshift.datasets.btad",
    "real_iad": "adshift.datasets.real_iad",
    "magnetic_tile": "adshift.datasets.magnetic_tile",
}
