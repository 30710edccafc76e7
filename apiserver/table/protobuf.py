#!/usr/bin/env python3
"""Makes protobuf.txt from two JSON files of facts: types (name -> {fields}) and protobuf (message -> {field:
[number, type, "repeated" or "map"]}), and the folder k8s.io/ with the Go types of api, apimachinery,
apiextensions-apiserver and kube-aggregator. One line for each message: its type in the table of kinds, then
`field=number`, with `*` before the name of a scalar that Go holds by pointer; `+message=number` is a member whose
fields stand, in JSON, in the object itself."""
import json, pathlib, re, sys

types = json.load(open(sys.argv[1]))
messages = json.load(open(sys.argv[2]))
SKIP = ("RawExtension", "FieldsV1", "Quantity", "IntOrString", ".Time", "MicroTime", ".JSON", "k8s.io.apiserver.", "testapigroup")

SCALARS = ("bool", "bytes", "double", "int32", "int64", "string", "k8s.io.apimachinery.pkg.util.intstr.IntOrString")

def dotted(package):  # io.k8s.api.core.v1.Pod -> k8s.io.api.core.v1.Pod
    name = re.sub(r"^io\.k8s\.", "k8s.io.", package)
    return name.replace("apiextensions-apiserver", "apiextensions_apiserver").replace("kube-aggregator", "kube_aggregator")

def short(message):
    name = message.replace("k8s.io.api.", "", 1) if message.startswith("k8s.io.api.") else message
    for long, brief in (("k8s.io.apimachinery.pkg.apis.", "apis."), ("k8s.io.apimachinery.pkg.", "pkg."),
                        ("k8s.io.apiextensions_apiserver.pkg.apis.", "ext."),
                        ("k8s.io.kube_aggregator.pkg.apis.", "agg.")):
        name = name.replace(long, brief)
    return name

def pointers(root):  # (message, number of the field) of all that are pointers in Go
    found = set()
    for path in pathlib.Path(root).rglob("types*.go"):
        package = ".".join(path.parent.relative_to(pathlib.Path(root).parent).parts).replace("-", "_")
        struct = ""
        for line in path.read_text().splitlines():
            if begin := re.match(r"type (\w+) struct", line):
                struct = begin[1]
            elif field := re.match(r"\s+\w+\s+\*.*protobuf:\"\w+,(\d+),", line):
                found.add((f"{package}.{struct}", int(field[1])))
    return found

held = pointers(sys.argv[3])
json_fields = {dotted(name): set(row.get("fields", {})) for name, row in types.items()}
rows, inlined = {}, {}

def full(message, ty):
    return ty if "." in ty else message.rsplit(".", 1)[0] + "." + ty

def row(message, known):
    plain = lambda field: re.sub("[$-]", "", field).lower()
    out, spelled = [], {plain(field): field for field in known}
    for field, spec in messages[message].items():
        if plain(field) in spelled:
            scalar = len(spec) == 2 and spec[1] in SCALARS
            mark = "*" if scalar and (message, spec[0]) in held else ""
            out.append(f"{mark}{spelled[plain(field)]}={spec[0]}")
        elif spec[1][0].isupper() or "." in spec[1]:
            inner = full(message, spec[1])
            out.append(f"+{short(inner)}={spec[0]}")
            inlined.setdefault(inner, set()).update(known)
    return out

for message in messages:
    if message in json_fields and not message.endswith(SKIP) and not any(skip in message for skip in SKIP[7:]):
        rows[message] = row(message, json_fields[message])
while True:
    new = [message for message in inlined if message not in rows]
    if not new:
        break
    for message in new:
        rows[message] = row(message, inlined[message])
for message in sorted(rows):
    print(" ".join([short(message), *rows[message]]))
