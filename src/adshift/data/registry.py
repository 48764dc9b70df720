"""The data sets and the families of backbones by name: the module of each, which is imported when it is used.

The schema of params.yaml takes the names of the data sets from here, too. Apart from `adshift.data.datasets` and
`adshift.features.backbones`, since every stage reads params.yaml and would depend on both otherwise.
"""

DATASETS = {
    "sample": "adshift.data.datasets.sample",
    "mvtec": "adshift.data.datasets.mvtec",
    "folder": "adshift.data.datasets.folder",
    "list": "adshift.data.datasets.csv_list",
    "mvtec_ad_2": "adshift.data.datasets.mvtec_ad_2",
    "visa": "adshift.data.datasets.visa",
    "btad": "adshift.data.datasets.btad",
    "real_iad": "adshift.data.datasets.real_iad",
    "magnetic_tile": "adshift.data.datasets.magnetic_tile",
}

FAMILIES = {
    "mcunet": "adshift.features.backbones.edge.mcunet",
    "micronet": "adshift.features.backbones.edge.micronet",
    "phinet": "adshift.features.backbones.edge.phinet",
}
