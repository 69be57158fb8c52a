"""The settings for sharing: what they mean, and what is said of wrong ones; and where the ledger is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from velodrome.errors import LedgerError, UsageError
from velodrome.resources import ledger_place
from velodrome.resources.ledger_place import Place, find
from velodrome.resources.settings import Settings, parse_settings, read_settings
from velodrome.resources.state import Rules, Tenant

GOOD = """
[sharing]
quantum_s = 5
[resources]
licences = 4
[default]
weight = 2
[tenants.ann]
weight = 3
guarantee = 0.25
max = 0.75
[tenants.bob]
"""


def test_all_of_it() -> None:
    settings = parse_settings(GOOD)
    assert settings.rules == Rules(quantum_s=5.0)
    assert settings.custom == {"licences": 4}
    assert settings.tenant("ann", 7.0) == Tenant("ann", 3.0, 0.25, 0.75, 7.0)
    assert settings.tenant("bob") == Tenant("bob", 2.0)
    assert settings.tenant("cleo") == Tenant("cleo", 2.0)


def test_no_file_is_fine(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "none.toml") == Settings()


@pytest.mark.parametrize(("text", "said"), [
    ("[sharing", "are no TOML"),
    ("[sharing]\nquantum = 5", r"sharing.quantum(.|\n)*Did you mean 'quantum_s'"),
    ("[sharing]\nquantum_s = -1", "quantum_s = -1"),
    ("[sharing]\nhalf_life_s = 0", "a number above 0"),
    ("[sharing]\ngrace_s = true", "grace_s = True"),
    ("sharing = 3", "a table"),
    ("[tenant.ann]\nweight = 1", "Did you mean 'tenants'"),
    ("[tenants]\nann = 3", r"\[tenants.ann\]"),
    ("[tenants.ann]\nweight = 0", "weight = 0"),
    ("[tenants.ann]\nweight = nan", "weight = nan"),
    ("[tenants.ann]\nguarantee = 1.5", "from 0 to 1"),
    ("[tenants.ann]\nguarantee = 0.5\nmax = 0.2", "no more than its max, 0.2"),
    ("[tenants.a]\nguarantee = 0.7\n[tenants.b]\nguarantee = 0.7", "1.4 in all"),
    ("[default]\nguarantee = 0.1", "0.1 to each of all others"),
    ("[resources]\nlicences = 1.5", "licences = 1.5"),
    ("[resources]\ngpu = 4", "can't have that name"),
])
def test_a_mistake_is_named(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_settings(text)


def place_for(tmp_path: Path, **environ: str) -> Place | None:
    return find({"HOME": str(tmp_path), **environ}, tmp_path / "etc.toml")


def test_by_default_it_is_the_users_own(tmp_path: Path) -> None:
    assert place_for(tmp_path) == Place(tmp_path / ".local/state/velodrome/ledger.db", False, "default")
    state = str(tmp_path / "state")
    assert place_for(tmp_path, XDG_STATE_HOME=state) == Place(tmp_path / "state/velodrome/ledger.db", False, "default")


def test_the_environment_counts_more_than_the_users_file_and_that_more_than_the_systems(tmp_path: Path) -> None:
    (tmp_path / "etc.toml").write_text('ledger = "/srv/a.db"')
    assert place_for(tmp_path) == Place(Path("/srv/a.db"), True, str(tmp_path / "etc.toml"))
    config = tmp_path / ".config/velodrome/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('ledger = "/srv/b.db"')
    assert place_for(tmp_path) == Place(Path("/srv/b.db"), True, str(config))
    assert place_for(tmp_path, VELODROME_LEDGER="/srv/c.db") == Place(Path("/srv/c.db"), True, "VELODROME_LEDGER")
    assert place_for(tmp_path, VELODROME_LEDGER="off") is None
    assert Path("/srv/c.toml") == Place(Path("/srv/c.db"), True, "").settings


@pytest.mark.parametrize(("text", "said"), [("ledger =", "is no TOML"), ("ledger = 3", "names no path")])
def test_a_configuration_file_that_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "etc.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        place_for(tmp_path)


def test_no_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_place, "remote_kind", lambda path: "nfs4" if "net" in path.parts else "")
    with pytest.raises(LedgerError, match=r"network file system(.|\n)*nfs4"):
        place_for(tmp_path, VELODROME_LEDGER="/net/ledger.db")
    home = tmp_path / "net"
    runtime = str(tmp_path / "run")
    assert find({"HOME": str(home), "XDG_RUNTIME_DIR": runtime}, tmp_path / "none") == Place(
        tmp_path / "run/velodrome/ledger.db", False, "default"
    )
    assert find({"HOME": str(home)}, tmp_path / "none") == Place(
        Path(f"/var/tmp/velodrome-{os.getuid()}/ledger.db"), False, "default"
    )
