"""Downloads from a server on this machine: cut, resumed, replaced, damaged; archives that mean harm."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from adshift.data import datasets, download
from adshift.data.datasets import btad
from adshift.data.download import Source
from adshift.errors import AdshiftError
from layouts import write_btad, write_mvtec, write_visa

DATA = bytes(range(256)) * 4000  # 1 MB


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class Server:
    """One file behind a web server that honours ranges, and cuts connections when told to."""

    def __init__(self) -> None:
        self.content, self.tag = DATA, '"one"'
        self.cuts: list[int] = []  # bytes sent before each coming connection is cut
        self.status = 0  # answered instead, if set
        self.deaf = False  # to ranges
        self.ranges: list[str | None] = []  # asked for
        self.starts: list[int] = []  # sent from
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers["Range"]
                outer.ranges.append(wanted)
                if outer.status:
                    self.send_error(outer.status)
                    return
                start, total = 0, len(outer.content)
                if wanted and not outer.deaf and self.headers["If-Range"] in (None, outer.tag):
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if start >= total:
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{total}")
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(total - start))
                if outer.tag:
                    self.send_header("ETag", outer.tag)
                self.end_headers()
                outer.starts.append(start)
                sent = outer.cuts.pop(0) if outer.cuts else total
                self.wfile.write(outer.content[start : start + sent])

            def log_message(self, *_: object) -> None:
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.zip"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    one = Server()
    Thread(target=one.http.serve_forever, args=(0.02,), daemon=True).start()
    yield one
    one.http.shutdown()
    one.http.server_close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_download_that_is_cut_goes_on(server: Server, tmp_path: Path) -> None:
    server.cuts = [2 * download.CHUNK, 3 * download.CHUNK + 100]
    download.download(server.url, tmp_path / "file.zip", digest(DATA))
    assert (tmp_path / "file.zip").read_bytes() == DATA
    assert server.ranges == [None, f"bytes={2 * download.CHUNK}-", f"bytes={5 * download.CHUNK}-"]
    assert names(tmp_path) == ["file.zip"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.cuts = [4 * download.CHUNK, *[0] * download.TRIES]
    with pytest.raises(AdshiftError, match=r"file\.zip: .*\n  remedy: fetch again, it goes on") as caught:
        download.download(server.url, tmp_path / "file.zip", digest(DATA))
    assert str(tmp_path / "file.zip") in caught.value.remedy
    assert len(server.ranges) == 1 + download.TRIES
    download.download(server.url, tmp_path / "file.zip", digest(DATA))
    assert server.ranges[-1] == f"bytes={4 * download.CHUNK}-"
    assert (tmp_path / "file.zip").read_bytes() == DATA


def test_a_file_replaced_between_two_calls_is_not_spliced(server: Server, tmp_path: Path) -> None:
    server.cuts = [4 * download.CHUNK, *[0] * download.TRIES]
    with pytest.raises(AdshiftError):
        download.download(server.url, tmp_path / "file.zip")
    server.content, server.tag = DATA[::-1], '"two"'
    download.download(server.url, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_strong_validator_it_begins_anew(server: Server, tmp_path: Path, tag: str) -> None:
    server.cuts, server.tag = [400_000], tag
    download.download(server.url, tmp_path / "file.zip", digest(DATA))
    assert server.starts == [0, 0]
    assert (tmp_path / "file.zip").read_bytes() == DATA


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.cuts, server.deaf = [400_000], True
    download.download(server.url, tmp_path / "file.zip", digest(DATA))
    assert (tmp_path / "file.zip").read_bytes() == DATA


def test_killed_between_the_last_byte_and_the_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(DATA)
    (tmp_path / "file.zip.part.tag").write_text(server.tag)
    download.download(server.url, tmp_path / "file.zip", digest(DATA))
    assert names(tmp_path) == ["file.zip"]
    assert (server.ranges, server.starts) == ([f"bytes={len(DATA)}-"], [])
    (tmp_path / "file.zip").unlink()
    (tmp_path / "file.zip.part").write_bytes(DATA + b"more")
    (tmp_path / "file.zip.part.tag").write_text(server.tag)
    download.download(server.url, tmp_path / "file.zip", digest(DATA))
    assert (tmp_path / "file.zip").read_bytes() == DATA


def test_another_file_than_expected_is_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(AdshiftError, match=f"sha256 is {digest(DATA)}, expected {digest(b'x')}; the file was removed"):
        download.download(server.url, tmp_path / "file.zip", digest(b"x"))
    assert not [name for name in names(tmp_path) if not name.endswith(".tag")]
    download.download(server.url, tmp_path / "file.zip", digest(DATA))  # nothing of it is taken up again


def test_an_unknown_checksum_is_told_kept_and_held_against_the_next_one(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file.zip"
    download.download(server.url, path)
    assert f"sha256 {digest(DATA)}" in capsys.readouterr().out
    assert (tmp_path / "file.zip.sha256").read_text() == f"{digest(DATA)}  file.zip\n"
    path.unlink()
    download.download(server.url, path)
    path.unlink()
    server.content = DATA[1:]
    with pytest.raises(AdshiftError, match=r"expected .*\n.*remove .*file\.zip\.sha256 to accept it"):
        download.download(server.url, path)
    assert not path.exists()


def test_a_file_put_there_by_hand_is_verified_and_not_downloaded(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(DATA)
    download.download(server.url, tmp_path / "file.zip", digest(DATA))
    assert not server.ranges
    (tmp_path / "file.zip").write_bytes(DATA[1:])
    with pytest.raises(AdshiftError, match="the file was removed"):
        download.download(server.url, tmp_path / "file.zip", digest(DATA))


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, download.TRIES)])
def test_a_server_that_refuses(server: Server, tmp_path: Path, status: int, tries: int) -> None:
    server.status = status
    with pytest.raises(AdshiftError, match=f"file.zip: {status} .* Error: "):
        download.download(server.url, tmp_path / "file.zip")
    assert len(server.ranges) == tries
    assert names(tmp_path) == []


def test_no_server(server: Server, tmp_path: Path) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(AdshiftError, match=r"file\.zip: .*refused"):
        download.download(server.url, tmp_path / "file.zip")


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(AdshiftError, match=r"0\.0 GB are needed"):
        download.download(server.url, tmp_path / "file.zip")


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


EVIL = {
    "absolute": member("/etc/evil"),
    "parent": member("a/../../evil"),
    "symlink": member("link", tarfile.SYMTYPE, "good.txt"),
    "symlink out": member("link", tarfile.SYMTYPE, "/etc"),
    "hard link": member("link", tarfile.LNKTYPE, "good.txt"),
    "device": member("null", tarfile.CHRTYPE),
    "pipe": member("pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_that_means_harm(tmp_path: Path, kind: str, mode: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    archive = tarred(inside / "a.tar", (member("good.txt"), b"good"), (EVIL[kind], b""), mode=mode)
    with pytest.raises(AdshiftError, match="nothing was unpacked"):
        download.unpack(archive, inside / "set")
    assert names(tmp_path) == ["inside", "inside/a.tar"]


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "a\\..\\evil"])
def test_a_zip_that_leads_out(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("good.txt", "good")
        file.writestr(name, "evil")
    with pytest.raises(AdshiftError, match="leads out of the folder; nothing was unpacked"):
        download.unpack(tmp_path / "a.zip", tmp_path / "set")
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("kind", [0o120000, 0o020000, 0o010000])  # link, device, pipe
def test_a_zip_with_a_link_or_device(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc")
    with pytest.raises(AdshiftError, match="is a link or a device"):
        download.unpack(tmp_path / "a.zip", tmp_path / "set")
    assert names(tmp_path) == ["a.zip"]


def test_damaged_archives(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar.gz", (member("good.txt"), DATA), mode="w:gz")
    archive.write_bytes(archive.read_bytes()[:-900])
    (tmp_path / "b.zip").write_bytes(b"no archive")
    for path, words in ((archive, "cannot be unpacked"), (tmp_path / "b.zip", "neither a tar nor a zip file")):
        with pytest.raises(AdshiftError, match=words):
            download.unpack(path, tmp_path / "set")
    assert names(tmp_path) == ["a.tar.gz", "b.zip"]


def archive_of(tree: Path, suffix: str, top: str = "") -> bytes:
    """A tree as an archive, in a folder `top` if given."""
    files = [(path, f"{top}{path.relative_to(tree).as_posix()}") for path in sorted(tree.rglob("*")) if path.is_file()]
    out = io.BytesIO()
    if suffix == "zip":
        with zipfile.ZipFile(out, "w") as file:
            for path, name in files:
                file.write(path, name)
    else:
        with tarfile.open(fileobj=out, mode="w") as tar:
            for path, name in files:
                tar.add(path, name)
    return out.getvalue()


@pytest.mark.parametrize(("suffix", "top"), [("zip", "BTech_Dataset_transformed/"), ("tar", ""), ("zip", "")])
def test_a_data_set_from_start_to_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    suffix: str, top: str,
) -> None:  # fmt: skip
    write_btad(tmp_path / "tree")
    server.content = archive_of(tmp_path / "tree", suffix, top)
    source = Source("a page", "a licence", server.url, digest(server.content))
    monkeypatch.setitem(download.SOURCES, "btad", source)
    monkeypatch.setattr(btad, "PUBLISHED", {name: (5, 2, 3) for name in ("01", "02", "03")})
    monkeypatch.chdir(tmp_path)
    root = download.fetch("btad")
    assert root == Path("raw/btad") / top
    assert "btad: a licence; see a page" in capsys.readouterr().out
    assert datasets.counts("btad", str(root)) == btad.PUBLISHED
    assert sorted(path.name for path in Path("raw").iterdir()) == ["btad"]  # the archive is gone
    *classes, last = download.report("btad", root)
    assert classes[0] == "01: 5 training, 2 normal test and 3 defective test images"
    assert last == f"next: adshift preset btad --data-root {root}"
    assert download.fetch("btad") == root  # again: looked at, not downloaded
    assert len(server.ranges) == 1


def test_a_data_set_with_images_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_btad(tmp_path / "raw/btad")
    with pytest.raises(AdshiftError, match=r"not whole:\n  .*class 01 has 5 training, .* published are 400 training"):
        download.fetch("btad", tmp_path / "raw/btad")


def test_a_form_is_named_and_what_the_user_put_there_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mvtec"
    with pytest.raises(AdshiftError) as caught:
        download.fetch("mvtec", folder)
    assert "no program may fetch it" in caught.value.what and "mvtec-ad" in caught.value.what
    assert f"fill in the form there, unpack into {folder}, so that it holds CLASS/train/good" in caught.value.remedy
    write_visa(folder)
    with pytest.raises(AdshiftError, match=r"is no mvtec data set\n  remedy: it is to hold CLASS/train/good"):
        download.fetch("mvtec", folder)
    write_mvtec(folder / "mvtec_anomaly_detection")
    monkeypatch.setattr(datasets.mvtec, "PUBLISHED", {"bottle": (4, 2, 3)})
    assert download.fetch("mvtec", folder) == folder / "mvtec_anomaly_detection"


def test_every_data_set_that_is_not_made_has_a_source() -> None:
    assert {*download.SOURCES, "sample", "folder", "list"} == set(datasets.REGISTRY)
    for source in download.SOURCES.values():
        assert source.licence and source.page.startswith("https://")
        assert bool(source.url) != bool(source.by_hand)
        assert source.sha256 == "" or (len(source.sha256) == 64 and source.url)
