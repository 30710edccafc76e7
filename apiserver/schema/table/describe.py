#!/usr/bin/env python3
"""Writes descriptions.z: what the types and fields of kinds.txt are for.

Run by hand after convert.py, or when Cargo.lock has another k8s-openapi: describe.py. The texts are those that the
crate gives with its feature `schemars`, read from its source, so that nothing has to be built. The file is a zlib
stream of lines: the version of the crate; each text once (\\x01 stands for a line break in it); an empty line; then
for each type its name, the number of its own text and `field=number` of its fields.
"""
import ast, json, pathlib, re, subprocess, zlib

here = pathlib.Path(__file__).parent
packages = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version=1"], cwd=here))["packages"]
crate = next(package for package in packages if package["name"] == "k8s-openapi")
source = pathlib.Path(crate["manifest_path"]).parent / "src" / "v1_36"

TEXT = r'"((?:[^"\\]|\\.)*)"'
BODY = re.compile(r'fn schema_name\(\)[^"]*"([^"]+)".*?fn json_schema\(.*?\n    \}\n', re.S)
# The depth of a line says what it belongs to: 12 spaces are the type's own, 16 begin a field.
FIELD = re.compile(rf'^ {{16}}{TEXT}: [({{]', re.M)
OWN = re.compile(rf'^ {{12}}"description": {TEXT}', re.M)
INNER = re.compile(rf'^ {{20}}(?:"description": |schema_obj.*"description"\.into\(\), ){TEXT}', re.M)
PREFIXES = {  # as in convert.py
    "io.k8s.apimachinery.pkg.apis.": "apis.", "io.k8s.apimachinery.pkg.": "pkg.",
    "io.k8s.apiextensions-apiserver.pkg.apis.": "ext.", "io.k8s.kube-aggregator.pkg.apis.": "agg.", "io.k8s.api.": "",
}


def short(name):
    return next((new + name[len(old):] for old, new in PREFIXES.items() if name.startswith(old)), name)


def text(literal):
    return ast.literal_eval(f'"{literal}"').replace("\n", "\x01")


def described():
    """Name -> (text of the type or None, {field: text})."""
    for file in sorted(source.rglob("*.rs")):
        for match in BODY.finditer(file.read_text()):
            name, body = match[1], match[0]
            parts = FIELD.split(body)
            own = OWN.search(parts[0])
            inner = ((field, INNER.search(part)) for field, part in zip(parts[1::2], parts[2::2]))
            yield short(name), (own and text(own[1]), {field: text(found[1]) for field, found in inner if found})


known = dict(described())
# Every kind has these two, lists too, which are no types of their own in the crate.
common = {field: known["core.v1.Pod"][1][field] for field in ("apiVersion", "kind")}
texts, rows = {}, []
number = lambda text: texts.setdefault(text, len(texts))
types = re.findall(r"^type (\S+) .*\n((?:  .*\n)*)", (here / "kinds.txt").read_text(), re.M)
for name, fields in types:
    own, inner = known.get(name, (None, {}))
    if own is None and name.endswith("List"):
        own = f"{name.rsplit('.', 1)[1]} is a list of {name.rsplit('.', 1)[1][:-4]} objects."
        inner = common | {"items": "The objects of the list.", "metadata": known["core.v1.Pod"][1]["metadata"]}
    fields = [line.split()[0] for line in fields.splitlines()]
    inner = common | inner if {"apiVersion", "kind"} <= set(fields) else inner
    row = [name, "-" if own is None else str(number(own))]
    rows.append(" ".join(row + [f"{field}={number(inner[field])}" for field in fields if field in inner]))
lines = "\n".join([f"k8s-openapi {crate['version']}", *texts, "", *rows])
(here / "descriptions.z").write_bytes(zlib.compress(lines.encode(), 9))
