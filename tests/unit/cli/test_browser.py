"""The dashboard's test finds a browser that starts, or unpacks the locked one, whose sum is checked first."""
import io
import subprocess
import tarfile
import xml.etree.ElementTree as ET

import brotli
import pytest

from weir.cli import browser, checks
from weir.errors import ContractViolation, MissingTool, SettingsError, Unavailable

CHROME = '#!/bin/sh\necho "Chromium 1 $LD_LIBRARY_PATH $FONTCONFIG_FILE"\n'


def _add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _packed(**files):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            _add(archive, name.replace("__", "/"), content)
    return brotli.compress(made.getvalue())


@pytest.fixture
def package(tmp_path):
    def make(chrome=CHROME):
        path = tmp_path / "package.tgz"
        with tarfile.open(path, "w:gz") as archive:
            _add(archive, "package/package.json", b"{}")
            _add(archive, "package/bin/chromium.br", brotli.compress(chrome.encode()))
            _add(archive, "package/bin/al2023.tar.br", _packed(lib__nss=b"library"))
            _add(archive, "package/bin/fonts.tar.br", _packed(fonts__Sans=b"font"))
        return path

    return make


def _locked(tmp_path, archive, integrity=None):
    lock, asked = tmp_path / "chromium.lock", []
    lock.write_text(f"# made by\nbrowser-package 1.2.3 {integrity or browser.summed(archive)}\n")

    def fetch(wanted, folder):
        asked.append(wanted)
        (folder / "package-1.2.3.tgz").write_bytes(archive.read_bytes())

    return lambda: browser.locked(tmp_path / "home", lock=lock, fetch=fetch), asked


def test_the_locked_browser_starts_with_its_own_libraries_and_font_and_is_fetched_once(tmp_path, package):
    get, asked = _locked(tmp_path, package())
    program = get()
    folder = program.parent
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    assert said[2].split(":")[0] == str(folder)
    assert said[3] == str(folder / "fonts.conf")
    assert ((folder / "nss").read_bytes(), (folder / "fonts" / "Sans").read_bytes()) == (b"library", b"font")
    fonts = ET.parse(folder / "fonts.conf").getroot()
    # Both absolute: fontconfig takes a relative cachedir from whatever folder it is started in.
    assert (fonts.find("dir").text, fonts.find("cachedir").text) == (str(folder / "fonts"), str(folder / "cache"))
    assert get() == program
    assert asked == ["browser-package@1.2.3"]


def test_a_package_with_another_sum_is_not_unpacked_and_leaves_nothing(tmp_path, package):
    get, _ = _locked(tmp_path, package(), "sha512-AAAA")
    with pytest.raises(ContractViolation, match="another SHA-512"):
        get()
    assert list((tmp_path / "home" / "browser").iterdir()) == []


def test_a_browser_that_does_not_start_here_is_not_kept_and_says_why(tmp_path, package):
    get, _ = _locked(tmp_path, package("#!/bin/sh\necho 'libc.so.6: version GLIBC_2.34 not found' >&2; exit 1\n"))
    with pytest.raises(MissingTool, match=r"GLIBC_2.34 not found.*glibc 2.34 or newer.*WEIR_CHROMIUM"):
        get()
    assert list((tmp_path / "home" / "browser").iterdir()) == []


def test_a_file_that_would_land_outside_is_refused(tmp_path):
    path, target = tmp_path / "inner.tar", tmp_path / "target"
    target.mkdir()
    path.write_bytes(brotli.decompress(_packed(**{"..__outside": b"x"})))
    with pytest.raises(ContractViolation, match="outside"):
        browser._files(path, target)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("text", ["", "# only this\n", "package 1.0\n", "package 1.0 sha1-abc\n"])
def test_a_lock_of_another_form_is_refused(text):
    with pytest.raises(SettingsError):
        browser.parse(text)


def test_the_machines_browser_is_taken_only_when_it_starts(tmp_path, monkeypatch):
    monkeypatch.delenv("WEIR_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, script in (("chromium", "#!/bin/sh\nexit 1\n"), ("google-chrome", "#!/bin/sh\necho Chrome 1\n")):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    assert browser.machines_own() == str(tmp_path / "google-chrome")
    monkeypatch.setenv("WEIR_CHROMIUM", "/mine")
    assert browser.ensure(tmp_path) == "/mine"


NPM = """#!/bin/sh
printf 'npm error code ETARGET\\nnpm error notarget No matching version found for p@1.\\nnpm error A complete log of this run can be found in: x\\n' >&2
exit 1
"""


def test_what_npm_said_is_told_and_the_tests_go_on_without_a_browser(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WEIR_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for name in ("npm", "node"):
        (tmp_path / name).write_text(NPM)
        (tmp_path / name).chmod(0o755)
    with pytest.raises(Unavailable, match=r"npm could not fetch p@1: notarget No matching version found for p@1\."):
        browser.pack("p@1", tmp_path)
    monkeypatch.setattr(browser, "machines_own", str)
    assert checks.ensure_browser(tmp_path / "home") == ""
    assert "the dashboard's tests will fail: npm could not fetch @sparticuz/chromium@" in capsys.readouterr().out
