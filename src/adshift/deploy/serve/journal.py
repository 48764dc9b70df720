"""What must not be lost, in one SQLite file: verdicts, and those that each sink has yet to get, in order.

A verdict and its entries for all sinks are written in one transaction. A sink takes its entries in order and deletes
one when the other side has it. So each verdict reaches each sink at least once, in order, also after a crash; its `id`
tells repetitions. Entries for sinks are bounded: when one is full, no image is accepted (`full`), until it drains.
"""

import fcntl
import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError

TABLES = """
CREATE TABLE IF NOT EXISTS verdicts (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, model TEXT NOT NULL, record TEXT NOT NULL,
  false_alarm INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS by_model ON verdicts (model, seq);
CREATE TABLE IF NOT EXISTS outbox (sink TEXT NOT NULL, seq INTEGER NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY (sink, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS taken (path TEXT PRIMARY KEY, mark TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
TRIMMED = 256  # verdicts between two removals of those that are no longer kept


class Journal:
    """The file. Threads may share it."""

    def __init__(self, folder: Path, sinks: Iterable[str], kept: int, spool: int) -> None:
        """Open or make the journal in `folder`.

        Args:
            folder: made if it is not there.
            sinks: names of the sinks; entries for others, of earlier runs, are kept.
            kept: verdicts to keep.
            spool: entries that may wait for a sink.

        Raises:
            AdshiftError: another service uses it, it is damaged, or the folder cannot be written.
        """
        self.sinks, self.kept, self.spool = tuple(sinks), kept, spool
        self._lock = threading.RLock()
        path = folder / "journal.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claim = (folder / "lock").open("w")
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AdshiftError(f"{folder}: another service uses it", "give each its own folder: --state DIR") from None
        except OSError as error:
            raise AdshiftError(f"{folder}: cannot be written ({error.strerror})", "name another: --state DIR") from None
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # safe against a crash of the process
            self._db.executescript(TABLES)
            [(sound,)] = self._db.execute("PRAGMA quick_check(1)")
            if sound != "ok":
                raise sqlite3.DatabaseError(sound)
        except sqlite3.Error as error:
            self._claim.close()
            message = f"{path}: not a readable journal ({error})"
            raise AdshiftError(message, "move it away: verdicts that wait for a sink are in it") from None
        counts = dict(self._db.execute("SELECT sink, COUNT(*) FROM outbox GROUP BY sink"))
        self._waiting = {sink: counts.get(sink, 0) for sink in self.sinks}

    def close(self) -> None:
        """Close the file; another service may open it."""
        with self._lock, suppress(sqlite3.Error):
            self._db.close()
        self._claim.close()

    # --- verdicts

    def add(self, record: Mapping[str, Any]) -> None:
        """Write a verdict, with an entry for each sink: all or nothing.

        Raises:
            AdshiftError: the disk is full.
        """
        text = json.dumps(record)
        with self._transaction():
            seq = self._db.execute(
                "INSERT INTO verdicts (id, model, record) VALUES (?, ?, ?)", (record["id"], record["model"], text)
            ).lastrowid
            assert seq is not None
            self._db.executemany("INSERT INTO outbox VALUES (?, ?, ?)", [(sink, seq, text) for sink in self.sinks])
            if seq % TRIMMED == 0:
                self._db.execute("DELETE FROM verdicts WHERE seq <= ?", (seq - self.kept,))
        with self._lock:
            for sink in self.sinks:
                self._waiting[sink] += 1

    def recent(self, model: str, count: int) -> list[dict[str, Any]]:
        """The last verdicts of a model, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT record, false_alarm FROM verdicts WHERE model = ? ORDER BY seq DESC LIMIT ?", (model, count)
            ).fetchall()
        return [{**json.loads(record), "false_alarm": bool(false_alarm)} for record, false_alarm in rows]

    def mark(self, identity: str, false_alarm: bool) -> bool:
        """Note that a verdict was a false alarm, or was none; False if it is not kept."""
        with self._transaction():
            done = self._db.execute("UPDATE verdicts SET false_alarm = ? WHERE id = ?", (int(false_alarm), identity))
        return done.rowcount == 1

    # --- sinks

    def waiting(self, sink: str) -> int:
        """Number of verdicts that wait for a sink."""
        return self._waiting[sink]

    @property
    def full(self) -> tuple[str, ...]:
        """Sinks for which as many verdicts wait as may."""
        return tuple(sink for sink in self.sinks if self._waiting[sink] >= self.spool)

    def next(self, sink: str, count: int) -> list[tuple[int, str]]:
        """The first entries for a sink: (number, record as JSON)."""
        with self._lock:
            return self._db.execute(
                "SELECT seq, record FROM outbox WHERE sink = ? ORDER BY seq LIMIT ?", (sink, count)
            ).fetchall()

    def delivered(self, sink: str, last: int) -> None:
        """Remove the entries up to the number `last`."""
        with self._transaction():
            gone = self._db.execute("DELETE FROM outbox WHERE sink = ? AND seq <= ?", (sink, last)).rowcount
        with self._lock:
            self._waiting[sink] -= gone

    # --- watched files, and facts that outlive a restart

    def taken(self, path: str, mark: str) -> bool:
        """Whether a watched file, with this size and time, was taken before."""
        with self._lock:
            return (mark,) in self._db.execute("SELECT mark FROM taken WHERE path = ?", (path,)).fetchall()

    def take(self, path: str, mark: str) -> None:
        """Remember a watched file that is left where it is."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO taken VALUES (?, ?)", (path, mark))

    def fact(self, name: str, default: int) -> int:
        """A number that was kept."""
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else int(row[0])

    def keep(self, name: str, value: int) -> None:
        """Keep a number."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, str(value)))

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db, self._lock)


class _Transaction:
    """Within: one transaction of one thread. A failure of the disk is an `AdshiftError`, and nothing was written."""

    def __init__(self, db: sqlite3.Connection, lock: Any) -> None:
        self._db, self._lock = db, lock

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._lock.release()
            raise _told(error) from None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self._db.execute("COMMIT")
                return
        except sqlite3.Error as failure:
            error = failure
        finally:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            self._lock.release()
        if isinstance(error, sqlite3.Error):
            raise _told(error) from None


def _told(error: sqlite3.Error) -> AdshiftError:
    return AdshiftError(f"the journal cannot be written ({error})", "make room on its disk: --state DIR")
