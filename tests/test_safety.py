"""No statement of ours runs what a file says, hands words to a shell, or listens beyond this machine."""

import ast
import builtins
import logging
import pickle
import re
from pathlib import Path

import pytest

from datasets.cifar10.batches import unpickle_batch
from tests.fuzz.texts import _batch

ROOT = Path(__file__).parents[1]
PACKAGES = ("analysis", "benchmarks", "datasets", "sweep", "trainables")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

#: What runs or builds anything that its argument asks for, by the end of the called name.
NEVER = {
    "eval",
    "exec",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "joblib.load",
    "pd.read_pickle",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "tarfile.open",
    "zipfile.ZipFile",
    "shutil.unpack_archive",
    "tempfile.mktemp",
    "socket.socket",
}
#: What a call must say: the keyword and its value.
MUST = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "ray.init": ("include_dashboard", False),
}
SUBPROCESSES = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}


def _name(node: ast.expr) -> str:
    """`a.b.c` as text; what is called on another value has a question mark before it."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_name(value)}.{name}"
    return "?"


def faults(source: str) -> list[str]:
    """What a module does that none of ours may, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value == "0.0.0.0":
            found.append(f"{node.lineno}: listens to everyone")
        if isinstance(node, ast.ImportFrom) and node.module in {"pickle", "subprocess", "yaml", "marshal", "os"}:
            hidden = {f"{node.module}.{alias.name}" for alias in node.names} & (NEVER | SUBPROCESSES)
            found += [f"{node.lineno}: imports {name} by itself, which hides its calls" for name in sorted(hidden)]
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        said = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
        if name in NEVER or name.endswith("HTTPServer"):
            found.append(f"{node.lineno}: {name}")
        # A cluster that is joined has the dashboard that it has.
        joins = name == "ray.init" and any(word.arg == "address" for word in node.keywords) and "address" not in said
        if name in MUST and not joins and said.get(MUST[name][0]) is not MUST[name][1]:
            found.append(f"{node.lineno}: {name} without {MUST[name][0]}={MUST[name][1]}")
        if name in SUBPROCESSES:
            if any(word.arg in ("shell", None) for word in node.keywords):
                found.append(f"{node.lineno}: {name} with a shell, or with options that cannot be seen")
            if not node.args or isinstance(node.args[0], ast.Constant | ast.JoinedStr):
                found.append(f"{node.lineno}: {name} of a text instead of a list of words")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_runs_what_others_wrote(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "import pickle\npickle.loads(b'')",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, mmap_mode='r')",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "subprocess.run('ls ' + name, shell=True)",
        "subprocess.run(f'ls {name}')",
        "subprocess.run(words, **options)",
        "os.system(name)",
        "ray.init()",
        "serve(host='0.0.0.0')",
        "tarfile.open(path).extractall()",
        "http.server.HTTPServer(('', 80), handler)",
    ],
)
def test_what_is_forbidden_is_found(source):
    assert faults(source)


def test_what_is_allowed_is_not_found():
    assert not faults(
        "torch.load(p, weights_only=True); np.load(p, allow_pickle=False); model.eval(); yaml.safe_load(t)"
    )
    assert not faults("subprocess.run(['git', *words], check=True); re.compile('x'); torch.compile(f)")


def test_the_printed_mlflow_command_listens_on_this_machine_only():
    text = (ROOT / "sweep" / "summarize.py").read_text()
    assert "mlflow ui" in text
    assert not re.search(r"--(host|allowed-hosts)", text)  # mlflow's own default is 127.0.0.1


def test_only_names_of_arrays_are_looked_up_in_a_batch():
    """Not even NumPy's own functions: what is found is a stand-in, or nothing."""
    batch = _batch(2, 0)
    assert unpickle_batch(pickle.dumps(batch, protocol=4))["labels"] == [0, 1]
    for what in (print, builtins.open, logging.shutdown, re.compile):
        with pytest.raises(pickle.UnpicklingError, match="which no batch of images needs"):
            unpickle_batch(pickle.dumps({**batch, "filenames": what}, protocol=4))
