"""The modules of data sets and of families of backbones, by name. A module is imported when it is used.

The schema of params.yaml takes the names of the data sets from this module. Every stage reads params.yaml; in
`adshift.data.datasets` or `adshift.features.backbones`, these names would make every stage depend on both.
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
