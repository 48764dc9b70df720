"""Which libraries that take long to load a detector's fit and its scoring may load."""

NOTHING: set[str] = set()
STUDENT = {"torch", "timm"}  # a network, trained and run

FIT = {
    "patchcore": {"numba"},
    "patchcore_pq": {"numba", "faiss"},
    "padim": {"torch", "timm", "anomalib", "sklearn", "pandas"},
    "padim_streaming": NOTHING,
    "padim_diagonal": NOTHING,
    "paste": STUDENT,
    "stfpm": STUDENT,
    "cfa": {"torch"},
}
SCORE = {
    "patchcore": {"numba"},
    "patchcore_pq": {"numba", "faiss"},
    "padim": {"numba"},
    "padim_streaming": {"numba"},
    "padim_diagonal": NOTHING,
    "paste": STUDENT,
    "stfpm": STUDENT,
    "cfa": {"numba"},
}
HEAVY = ("torch", "timm", "anomalib", "sklearn", "pandas", "faiss", "numba")
