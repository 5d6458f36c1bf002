"""Looks at rendered manifests: objects.py WHAT FILE…; prints YAML or complaints.

pods           the pods that its templates make, as objects of their own, for an admission that looks at pods alone
keda SCHEMA    what is wrong with triggers, by KEDA's schema of its scalers
plant MISTAKE  the manifest with one mistake in it
"""

import json
import sys

import yaml


def objects(path):
    with open(path) as file:
        return [one for one in yaml.safe_load_all(file) if one]


def dump(those):
    yaml.safe_dump_all(those, sys.stdout)


def pods(path):
    made = []
    for one in objects(path):
        template = one.get("spec", {}).get("template")
        if not template or one["kind"] not in ("Deployment", "StatefulSet", "Job"):
            continue
        name = one["metadata"]["name"]
        labels = template["metadata"].get("labels", {})
        # A claim of a StatefulSet is a volume of its pod.
        claims = [
            {"name": claim["metadata"]["name"], "emptyDir": {}}
            for claim in one["spec"].get("volumeClaimTemplates", [])
        ]
        template["spec"].setdefault("volumes", []).extend(claims)
        metadata = {"name": f"{name}-pod", "labels": labels}
        made.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    dump(made)


def keda(schema, path):
    with open(schema) as file:
        scalers = {one["type"]: one["parameters"] for one in json.load(file)["scalers"]}
    wrong = []
    for one in objects(path):
        if one["kind"] != "ScaledObject":
            continue
        for trigger in one["spec"]["triggers"]:
            where = f"{one['metadata']['name']}: {trigger['type']}"
            known = {parameter["name"]: parameter for parameter in scalers.get(trigger["type"], [])}
            if not known:
                wrong.append(f"{where}: there is no such scaler")
            for name, value in trigger["metadata"].items():
                if name not in known:
                    wrong.append(f"{where}: no parameter {name}")
                elif not isinstance(value, str):
                    wrong.append(f"{where}: {name} is no text")
            for name, parameter in known.items():
                needed = not parameter.get("optional") and "default" not in parameter
                if needed and parameter.get("metadataVariableReadable") and name not in trigger["metadata"]:
                    wrong.append(f"{where}: {name} is missing")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


def of_kind(those, kind):
    return next(one for one in those if one["kind"] == kind)


def plant(mistake, path):
    those = objects(path)
    deployment = of_kind(those, "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    if mistake == "misspelt-field":
        container["livenesProbe"] = container.pop("livenessProbe")
    elif mistake == "wrong-type":
        deployment["spec"]["revisionHistoryLimit"] = "three"
    elif mistake == "selector-of-others":
        deployment["spec"]["selector"]["matchLabels"] = {"app": "another"}
    elif mistake == "no-such-port":
        container["readinessProbe"]["httpGet"]["port"] = "a name that is far too long"
    elif mistake == "no-such-volume":
        container["volumeMounts"] = [{"name": "gone", "mountPath": "/gone"}]
    elif mistake == "keda-field":
        of_kind(those, "ScaledObject")["spec"]["minReplicas"] = 0
    elif mistake == "rule-without-expr":
        del of_kind(those, "PrometheusRule")["spec"]["groups"][0]["rules"][0]["expr"]
    elif mistake == "keda-parameter":
        of_kind(those, "ScaledObject")["spec"]["triggers"][0]["metadata"]["valuelocation"] = "x"
    elif mistake == "root":
        deployment["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = False
    elif mistake == "privileges":
        container["securityContext"]["allowPrivilegeEscalation"] = True
    elif mistake == "host-path":
        volumes = deployment["spec"]["template"]["spec"].setdefault("volumes", [])
        volumes.append({"name": "host", "hostPath": {"path": "/"}})
    else:
        sys.exit(f"no mistake {mistake}")
    dump(those)


if __name__ == "__main__":
    what = {"pods": pods, "keda": keda, "plant": plant}[sys.argv[1]]
    sys.exit(what(*sys.argv[2:]))
