"""The data sets and the families of backbones by name: the module of each, which is imported when it is used.

The schema of params.yaml takes the names of the data sets from here, too. Apart from `adshift.datasets` and
`adshift.backbones`, since every stage reads params.yaml and would depend on both otherwise.
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

FAMILIES = {
    "mcunet": "adshift.backbones.mcunet",
    "micronet": "adshift.backbones.micronet",
    "phinet": "adshift.backbones.phinet",
}
