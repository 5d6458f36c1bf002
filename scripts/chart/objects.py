"""Looks at rendered manifests: objects.py WHAT FILE…; prints YAML or complaints.

pods           the pods that its templates make, as objects of their own, for an admission that looks at pods alone
keda SCHEMA    what is wrong with triggers, by KEDA's schema of its scalers
plant MISTAKE  the manifest with one mistake in it
programs FOLDER PROGRAMS  what the programs find wrong with the variables and files that the containers get
"""

import base64
import binascii
import json
import os
import shutil
import struct
import subprocess
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
    elif mistake == "value-out-of-bounds":
        container["env"] = [it for it in container["env"] if it["name"] != "PONIX_INGEST_CLOSE_DELAY_SECS"]
        container["env"].append({"name": "PONIX_INGEST_CLOSE_DELAY_SECS", "value": "600"})
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


# What a ConfigMap holds that is not the release's: a pipeline, or an entity, by the folder that it is in.
OF_OTHERS = {
    "pipelines": "apiVersion: ponix.dev/v1\nkind: Pipeline\nmetadata: {name: others}\nspec:\n"
    "  source: {stream: OTHERS, subjects: [others.>]}\n  decode: {format: csv, columns: {id: text}}\n"
    "  sink: {clickhouse: {table: others, identity: [id], schema: require}}\n",
    "entities": "apiVersion: ponix.dev/v1\nkind: Entity\nmetadata: {name: Other}\nspec:\n  type: root\n  prefix: X\n"
    "  fields: [{name: key, type: String}]\n  persistence: {table: others, unique: [[key]]}\n",
}


def seed():
    """The seed of a user of NATS: its kind, 32 bytes, a checksum."""
    kind, user = 18 << 3, 20 << 3
    raw = bytes([kind | user >> 5, (user & 31) << 3]) + os.urandom(32)
    return base64.b32encode(raw + struct.pack("<H", binascii.crc_hqx(raw, 0))).decode().rstrip("=")


def secret(key, folder):
    """What a key of a Secret could hold."""
    if key.endswith(".creds"):
        jwt, nkey = ("-----BEGIN %s-----\n%s\n------END %s------\n",) * 2
        return jwt % ("NATS USER JWT", "e30.e30.e30", "NATS USER JWT") + nkey % (
            "USER NKEY SEED",
            seed(),
            "USER NKEY SEED",
        )
    if key.endswith(".jsonl"):
        return '{"key":"0123456789abcdef","organization":"example-org"}\n'
    with open(os.path.join(folder, "tls.key" if key.endswith(".key") else "tls.crt")) as file:
        return file.read()


def mounted(pod, maps, root, folder):
    """Lays the volumes of a container's mounts below a folder."""
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for mount in pod["containers"][0].get("volumeMounts", []):
        volume, place = volumes[mount["name"]], root + mount["mountPath"]
        os.makedirs(place)
        sources = volume.get("projected", {}).get("sources", [volume])
        others = {"others.yaml": OF_OTHERS.get(mount["name"], "")}
        files = {}
        for source in sources:
            if "configMap" in source:
                files.update(maps.get(source["configMap"]["name"], others))
            else:
                files.update({item["path"]: secret(item["key"], folder) for item in source["secret"]["items"]})
        for name, text in files.items():
            with open(os.path.join(place, name), "w") as file:
                file.write(text)


def programs(folder, where, path):
    those, wrong = objects(path), []
    maps = {one["metadata"]["name"]: one["data"] for one in those if one["kind"] == "ConfigMap"}
    for one in those:
        pod = one.get("spec", {}).get("template", {}).get("spec")
        if not pod or pod["containers"][0]["name"] != "ponix":
            continue
        name, container = one["metadata"]["name"], pod["containers"][0]
        root = os.path.join(folder, name)
        shutil.rmtree(root, ignore_errors=True)
        os.makedirs(root)
        mounted(pod, maps, root, folder)
        variables = {
            it["name"]: it.get("value", "from-a-secret").replace("/etc/ponix/", root + "/etc/ponix/")
            for it in container["env"]
        }
        program, *arguments = container["command"]
        command = [os.path.join(where, os.path.basename(program)), "check-config"]
        if os.path.basename(program) == "ponix":
            command[1:] = ["streams", "check", root + arguments[-1]]
        said = subprocess.run(command, env=variables, capture_output=True, text=True)
        # A variable that there is not is a warning alone.
        if said.returncode != 0 or "is not a variable" in said.stdout + said.stderr:
            lines = [line for line in said.stdout.splitlines() if not line.startswith("PONIX_")]
            wrong.append("\n".join([f"{name}: exit code {said.returncode}", *lines, said.stderr]))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    what = {"pods": pods, "keda": keda, "plant": plant, "programs": programs}[sys.argv[1]]
    sys.exit(what(*sys.argv[2:]))
