"""The alert rules: they parse, each fires in its test and not in the healthy one, each has its section in the README, and
each asks for series that a sidecar has."""

import re
import subprocess

import yaml
from common import DEPLOY, ROOT, check

RULES = f"{DEPLOY}/prometheus/alerts.yml"
TESTS = f"{DEPLOY}/prometheus/alerts_test.yml"
METRIC = re.compile(r"\b(?:kling_balancer_\w+|up)(?:\{[^}]*\})?")


def rules():
    (group,) = yaml.safe_load(open(RULES))["groups"]
    return group["rules"]


def check_files():
    subprocess.run(["promtool", "check", "rules", RULES], check=True)
    subprocess.run(["promtool", "test", "rules", TESTS], check=True)
    tests = yaml.safe_load(open(TESTS))["tests"]
    fired = set()
    for test in tests:
        for sample in test["promql_expr_test"][-1]["exp_samples"]:
            fired.add(re.search(r'alertname="(\w+)"', sample["labels"])[1])
    healthy = str(tests[0]["input_series"])
    headings = re.findall(r"^#+ (.+)$", open(f"{ROOT}/README.md").read(), re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    for rule in rules():
        name, notes = rule["alert"], rule["annotations"]
        check(name in fired, f"{name} fires in no test")
        for metric in re.findall(r"\b(?:kling_balancer_\w+|up)\b", rule["expr"]):
            check(f"{metric}{{" in healthy, f"{name} is not tested with a healthy {metric}")
        check(rule["labels"]["severity"] in ("critical", "warning"), f"{name} has no severity")
        check(notes["summary"] and notes["description"], f"{name} does not say what it means")
        check(notes["runbook_url"] == f"README.md#{name.lower()}", f"{name} has the runbook {notes['runbook_url']}")
        check(name.lower() in anchors, f"the README has no section {name}")
    print(f"alerts: {len(rules())} rules, each fires in a test and has a runbook")


def check_live(live):
    """Each part of each expression names a series that a sidecar has; and Prometheus can evaluate all of it."""
    parts = {part for rule in rules() for part in METRIC.findall(rule["expr"])}
    live.until_answered({part: part for part in parts}, {})
    groups = live.api("rules", {})["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    check(len(loaded) == len(rules()), f"Prometheus has loaded {len(loaded)} rules")
    for rule in loaded:
        check(rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError') or rule['health']}")
    print(f"alerts: the {len(parts)} selectors of {len(loaded)} rules find series of a sidecar")
