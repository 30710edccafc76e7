#!/usr/bin/env python3
"""Writes kinds.txt and columns.txt from Kubernetes' published facts.

Run by hand when the facts change: convert.py DIR, where DIR holds types.json,
resources.json and columns.json (extracted from the OpenAPI v3 documents, the
discovery documents and the printers of one Kubernetes release).
"""
import json, pathlib, sys

here = pathlib.Path(__file__).parent
facts = pathlib.Path(sys.argv[1])
load = lambda name: json.loads((facts / f"{name}.json").read_text())

# The short forms of the Go packages' prefixes; src/types.rs spells them out again.
PREFIXES = {
    "io.k8s.api.": "",
    "io.k8s.apimachinery.pkg.apis.": "apis.",
    "io.k8s.apimachinery.pkg.": "pkg.",
    "io.k8s.apiextensions-apiserver.pkg.apis.": "ext.",
    "io.k8s.kube-aggregator.pkg.apis.": "agg.",
}
# Printers whose name is not the kind with a small first letter.
PRINTERS = {
    "ClusterRoleBinding": "clusterRoleBindings", "RoleBinding": "roleBindings", "Endpoints": "endpoint",
    "PriorityLevelConfiguration": "priorityLevel", "IPAddress": "ipAddress",
    "MutatingWebhookConfiguration": "mutatingWebhook", "ValidatingWebhookConfiguration": "validatingWebhook",
    "CSIDriver": "csiDriver", "CSINode": "csiNode", "CSIStorageCapacity": "csiStorageCapacity",
    "ServiceCIDR": "serviceCIDR", "ResourceSlice": "nodeResourceSlice",
}
SCALARS = {
    ("string", None): "string", ("string", "byte"): "bytes", ("integer", "int32"): "int32",
    ("integer", "int64"): "int64", ("number", "double"): "double", ("boolean", None): "bool",
}
# Subresources that Coracle does not serve.
NOT_SERVED = {"token"}
# Resources that answer a deletion with the object.
SHOWS_DELETED = {
    "csidrivers", "csinodes", "deviceclasses", "persistentvolumeclaims", "persistentvolumes", "pods", "podtemplates",
    "resourceclaims", "resourceclaimtemplates", "resourcequotas", "resourceslices", "serviceaccounts", "services",
    "storageclasses", "volumeattachments", "volumeattributesclasses",
}
FORMS = {
    "pkg.api.resource.Quantity": "quantity", "pkg.util.intstr.IntOrString": "int-or-string",
    "apis.meta.v1.Time": "time", "apis.meta.v1.MicroTime": "micro-time",
}


def short(name):
    for prefix, instead in PREFIXES.items():
        if name.startswith(prefix):
            return instead + name[len(prefix):]
    sys.exit(f"unknown package: {name}")


def shape(f):
    if "ref" in f:
        return "@" + short(f["ref"])
    if "array" in f:
        return "[]" + shape(f["array"])
    if "map" in f:
        return "{}" + shape(f["map"])
    return SCALARS[f["type"], f.get("format")]


def flags(f):
    if f.get("required"):
        yield "required"
    if "default" in f:
        yield "default=" + json.dumps(f["default"])
    if "listMapKeys" in f:
        yield "list=map:" + ",".join(f["listMapKeys"])
    elif "listType" in f:
        yield "list=" + f["listType"]
    for key, name in ("patchStrategy", "patch"), ("patchMergeKey", "key"), ("mapType", "map"):
        if key in f:
            yield f"{name}={f[key]}"


def types():
    for name, t in sorted(load("types").items(), key=lambda kv: short(kv[0])):
        name = short(name)
        form = "struct" if t.get("fields") else FORMS.get(name) or ("object" if t.get("type") == "object" else "any")
        words = ["type", name, form] + (["atomic"] if t.get("mapType") == "atomic" else [])
        yield " ".join(words + ["=" + "/".join(gvk) for gvk in t.get("gvk", [])])
        for field, f in sorted(t.get("fields", {}).items()):
            yield " ".join([" ", field, shape(f), *flags(f)])


def resources(columns):
    kinds = {tuple(gvk): short(n) for n, t in load("types").items() for gvk in t.get("gvk", [])}
    for r in load("resources"):
        kind = r["kind"]
        printer = PRINTERS.get(kind, kind[0].lower() + kind[1:])
        yield " ".join([
            "resource", r["group"] or "core", r["version"], kind, r["plural"], r["singular"],
            "namespaced" if r["namespaced"] else "cluster", kinds[r["group"], r["version"], kind],
            "verbs=" + ",".join(r["verbs"]), "short=" + ",".join(r.get("shortNames", [])),
            "categories=" + ",".join(r.get("categories", [])),
            "printer=" + (printer if printer in columns else ""),
            *(["deleted=object"] if r["plural"] in SHOWS_DELETED else []),
        ])
        for s in r.get("subresources", []):
            if s["name"] in NOT_SERVED:
                continue
            group = s.get("group", r["group"]) or "core"
            yield " ".join([" ", s["name"], group, s.get("version", r["version"]), s["kind"], ",".join(s["verbs"])])


columns = load("columns")
(here / "kinds.txt").write_text("\n".join([*types(), *resources(columns)]) + "\n")
rows = []
for printer, definitions in sorted(columns.items()):
    rows.append(printer)
    rows += ["\t".join(["", d[0], d[1], str(d[2]), d[3] if len(d) > 3 else ""]) for d in definitions]
(here / "columns.txt").write_text("\n".join(rows) + "\n")
