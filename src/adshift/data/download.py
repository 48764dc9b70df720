"""Data sets from their authors: `adshift fetch NAME` downloads those that may be downloaded, and checks the files.

An interrupted download is continued. An archive is verified, unpacked beside the target and renamed. Only plain files
and folders below the target are written.
"""

import hashlib
import shutil
import stat
import tarfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import requests
from tqdm import tqdm

from adshift.data import datasets
from adshift.data.listing import folders_in
from adshift.errors import AdshiftError
from adshift.runtime.files import output
from adshift.runtime.parallel import progress

TRIES = 5  # attempts in a row that bring no new byte
PAUSE = 2.0  # seconds before the next attempt
TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
CHUNK = 1 << 16  # bytes; at most so many are lost when a connection breaks
DEPTH = 2  # levels of folders that an archive may have around a data set
HOME = Path("raw")
# Images hardly compress, so an archive that exceeds both limits is a bomb, made to fill the disk.
MOST_RATIO, RATIO_FROM = 100, 2**30  # unpacked bytes per byte of the archive; checked from RATIO_FROM unpacked bytes on
MOST_MEMBERS = 1_000_000


@dataclass(frozen=True)
class Source:
    """The source of a data set.

    Attributes:
        page: its authors' page.
        licence: in words.
        url: of a public archive; empty if there is none.
        sha256: of that archive; if it is empty, the first download records it.
        by_hand: what to do on the page if there is no `url`.
    """

    page: str
    licence: str
    url: str = ""
    sha256: str = ""
    by_hand: str = ""


FORM = "fill in the form"
# The two sha256 are those that anomalib 2.7.0 expects; the authors publish none.
SOURCES = {
    "mvtec": Source("https://www.mvtec.com/company/research/datasets/mvtec-ad", "CC BY-NC-SA 4.0", by_hand=FORM),
    "mvtec_ad_2": Source("https://www.mvtec.com/company/research/datasets/mvtec-ad-2", "CC BY-NC-SA 4.0", by_hand=FORM),
    "visa": Source(
        "https://github.com/amazon-science/spot-diff",
        "CC BY 4.0",
        "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
        "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    ),
    "btad": Source(
        "https://avires.dimi.uniud.it/papers/btad/",
        "CC BY-NC-SA 4.0 according to anomalib",
        "https://avires.dimi.uniud.it/papers/btad/btad.zip",
        "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    ),
    "real_iad": Source("https://realiad4ad.github.io/Real-IAD/", "CC BY-NC-SA 4.0", by_hand="ask for access"),
    "magnetic_tile": Source(
        "https://github.com/abin24/Magnetic-tile-defect-datasets.",
        "free for research, with citation",
        by_hand="clone the repository",
    ),
}


def fetch(name: str, to: Path | None = None) -> Path:
    """Make sure that a data set is in `to`; download it if it is not and may be downloaded.

    Args:
        name: of the data set.
        to: its folder, by default `raw/NAME`.

    Returns:
        The root of the data set: `to`, or a folder in it that the archive has around the data set.

    Raises:
        AdshiftError: it must be downloaded by hand, the download failed or is not the expected file, or the data set in
            the folder is incomplete.
    """
    source, folder = SOURCES[name], to or HOME / name
    print(f"{name}: {source.licence}; see {source.page}")
    if not folder.is_dir() or not any(folder.iterdir()):
        if not source.url:
            layout = datasets.layout(name)
            raise AdshiftError(
                f"{name}: no program may fetch it; its authors give it out at {source.page}",
                f"{source.by_hand} there, unpack into {folder}, so that it holds {layout}; then "
                f"`adshift fetch {name} --to {folder}` checks it",
            )
        archive = folder.parent / source.url.rsplit("/", 1)[1]
        download(source.url, archive, source.sha256)
        unpack(archive, folder)
        archive.unlink()
    root = find(name, folder)
    if problems := datasets.incomplete(name, str(root)):
        remedy = f"complete it, or remove {folder} and fetch it anew; classes that are whole can be used as they are"
        raise AdshiftError("\n  ".join(["the data set is not whole:", *problems]), remedy)
    return root


def find(name: str, folder: Path) -> Path:
    """The root of the data set `name` in `folder`: itself, or a folder at most `DEPTH` below.

    Raises:
        AdshiftError: it is not there.
    """
    candidates = [folder]
    for _ in range(DEPTH + 1):
        for candidate in candidates:
            try:
                datasets.classes_under(name, str(candidate))
            except AdshiftError:
                continue
            return candidate
        candidates = [inner for candidate in candidates for inner in folders_in(candidate)]
    datasets.classes_under(name, str(folder))
    raise AssertionError("unreachable: the first place was tried above")


def download(url: str, path: Path, sha256: str = "") -> None:
    """Download `url` to `path`, whole and verified. A second call continues an interrupted download.

    `PATH.part` holds the bytes so far. Without `sha256`, `PATH.sha256` counts, which the first download writes.

    Raises:
        AdshiftError: the server cannot be reached, refuses, or sends another file than the one expected.
    """
    part, record = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.sha256")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _arrive(url, part)
    arrived = path if path.exists() else part
    with arrived.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = sha256 or (record.read_text(encoding="utf-8").split()[0] if record.exists() else "")
    if expected and digest != expected:
        arrived.unlink()
        raise AdshiftError(
            f"{url}: sha256 is {digest}, expected {expected}; the file was removed",
            "fetch again; if it is the same again, the publisher has changed the file"
            + ("" if sha256 else f": remove {record} to accept it"),
        )
    if not expected:
        record.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
        print(f"sha256 {digest}, kept in {record}: nobody has recorded it before")
    arrived.rename(path)
    _tag(part).unlink(missing_ok=True)


def _arrive(url: str, part: Path) -> None:
    """Fill `part`, with as many connections as necessary."""
    tries = 0
    while True:
        before = _size(part)
        try:
            _continue(url, part)
            return
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            tries = TRIES if status < 500 else tries + 1
            reason = str(error)
        except requests.RequestException as error:
            tries = 0 if _size(part) > before else tries + 1
            reason = str(error)
        except OSError as error:
            raise AdshiftError(
                f"{part}: cannot be written ({error.strerror})", "make room or name another folder"
            ) from None
        if tries >= TRIES:
            remedy = "fetch again, it goes on where it was cut; or download it by hand to " + str(part.with_suffix(""))
            raise AdshiftError(f"{url}: {reason}", remedy) from None
        time.sleep(PAUSE * (tries > 0))


def _continue(url: str, part: Path) -> None:
    """Download over one connection. Bytes in `part` are kept if the server says that the file has not changed."""
    start, headers = _size(part), {"Accept-Encoding": "identity"}
    if start and _tag(part).exists():
        headers |= {"Range": f"bytes={start}-", "If-Range": _tag(part).read_text(encoding="utf-8")}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if answer.headers.get("Content-Range") == f"bytes */{start}":
                return  # the file is complete
            part.unlink()
            raise requests.ConnectionError("the file on the server became shorter")
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise requests.ConnectionError("the server sent another range than the one asked for")
        start = start if resumed else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        _room(part.parent, total and total - start)
        _tag(part).write_text(_validator(answer), encoding="utf-8")
        bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None, leave=False)
        with part.open("ab" if resumed else "wb") as file, bar:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and _size(part) != total:
            raise requests.ConnectionError(f"cut after {_size(part)} of {total} bytes")


def _validator(answer: requests.Response) -> str:
    """The value of If-Range, by which the server tells whether the file has changed. A weak tag does not serve."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", '"none"')


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _room(folder: Path, needed: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if needed and needed > free:
        message = f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise AdshiftError(message, "make room, or name another folder with --to")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip file into `folder`, all of it or nothing.

    Raises:
        AdshiftError: it is damaged, or holds an absolute path, `..`, a link, anything but files and folders, two files
            whose names differ at most in case, or far more bytes than its size allows.
    """
    with output(folder) as home:
        home.mkdir()
        try:
            if tarfile.is_tarfile(archive):
                _untar(archive, home)
            elif zipfile.is_zipfile(archive):
                _unzip(archive, home)
            else:
                raise AdshiftError(f"{archive}: neither a tar nor a zip file", f"remove {archive} and fetch it anew")
        except (OSError, EOFError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
            message = f"{archive}: cannot be unpacked ({error})"
            raise AdshiftError(message, f"make room, or remove {archive} and fetch it anew") from None


def _untar(archive: Path, home: Path) -> None:
    guard = _Guard(archive)
    with tarfile.open(archive) as tar:
        for member in progress(tar, what=f"unpack {archive.name}", unit="file"):
            guard.take(member.name, member.size, plain=member.isreg() or member.isdir(), folder=member.isdir())
            _room(home, member.size)
            # Not `tar.extract`: its safe filter needs Python 3.11.4, and the guard has checked the name.
            target = home / member.name
            (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
            if content := tar.extractfile(member):
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)


def _unzip(archive: Path, home: Path) -> None:
    guard = _Guard(archive)
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the archive does not say
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            guard.take(member.filename, member.file_size, plain=plain, folder=member.is_dir())
        _room(home, guard.bytes)
        for member in progress(members, what=f"unpack {archive.name}", unit="file"):
            file.extract(member, home)  # at most `file_size` bytes


class _Guard:
    """Checks every member of an archive before it is written."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.most = archive, max(RATIO_FROM, MOST_RATIO * archive.stat().st_size)
        self.bytes, self.members = 0, 0
        self.files: set[str] = set()

    def take(self, name: str, size: int, *, plain: bool, folder: bool) -> None:
        """Check a member and add it to the count.

        Raises:
            AdshiftError: it must not be written.
        """
        path = PurePosixPath(name)
        known = unicodedata.normalize("NFC", path.as_posix()).casefold()  # as file systems without case compare
        self.bytes, self.members = self.bytes + size, self.members + 1
        if not plain:
            problem = "is a link or a device"
        elif path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            problem = "leads out of the folder"
        elif known in self.files:
            problem = "is there twice, but for capitals perhaps"
        elif size < 0 or self.bytes > self.most or self.members > MOST_MEMBERS:
            problem = f"is one too many: {self.members} files of {self.bytes} bytes"
        else:
            self.files |= set() if folder else {known}
            return
        raise AdshiftError(
            f"{self.archive}: {name!a} {problem}; nothing was unpacked", "do not trust this archive; tell its publisher"
        )


def report(name: str, root: Path) -> Iterator[str]:
    """Lines that describe the data set in `root` and the next step."""
    for chosen, row in datasets.counts(name, str(root)).items():
        yield f"{chosen}: {datasets.in_words(row)}"
    yield f"next: adshift preset {name} --data-root {root}"
