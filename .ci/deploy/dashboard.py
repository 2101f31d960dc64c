"""The dashboard of Grafana: every query has an answer from a Prometheus that scrapes a sidecar, the data source is
everywhere the one that is chosen, and Grafana's own model of a dashboard knows every member."""

import json
import re

import yaml
from common import DEPLOY, check

FILE = f"{DEPLOY}/grafana/dashboards/kling-balancer.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What Grafana puts in, for scrapes of a second.
VARIABLES = {"$__rate_interval": "10s", "$__range": "1m", "$job": ".*", "$instance": ".*"}
# Queries that find nothing while all is well, by the titles of their panels.
MAY_BE_EMPTY = {
    "Alerts": "no alert is firing",
}
# Members that Grafana's Prometheus plugin reads, and the common model does not have.
OF_THE_PLUGIN = ("titleFormat", "textFormat", "step", "definition")


def load():
    return json.load(open(FILE))


def queries(dashboard):
    """Title and expression of all that asks Prometheus."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} ({target['refId']})", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def check_file():
    dashboard = load()
    panels = dashboard["panels"]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    check(variables["datasource"]["type"] == "datasource", "the dashboard lets nobody choose a data source")
    check(variables["datasource"]["query"] == DATASOURCE["type"], "the data source is no Prometheus")
    ids = [panel["id"] for panel in panels]
    check(len(set(ids)) == len(ids), "two panels have one id")
    sources = re.findall(r'"uid": "([^"]*)"', json.dumps(dashboard["panels"] + dashboard["annotations"]["list"]))
    check(set(sources) == {DATASOURCE["uid"]}, f"the dashboard is tied to the data sources {set(sources)}")
    cells = set()
    for panel in panels:
        title, place = panel["title"], panel["gridPos"]
        taken = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        check(place["x"] + place["w"] <= 24 and not taken & cells, f"the panel {title} covers another one")
        cells |= taken
        if panel["type"] == "row":
            continue
        check(panel["datasource"] == DATASOURCE, f"the panel {title} is tied to a data source")
        check(panel["description"], f"the panel {title} is not explained")
        references = [target["refId"] for target in panel["targets"]]
        check(references and len(set(references)) == len(references), f"the panel {title} has two queries of one name")
        for target in panel["targets"]:
            check(target["datasource"] == DATASOURCE and target["expr"], f"a query of the panel {title} is incomplete")
    for title, expr in queries(dashboard):
        used = set(re.findall(r"\$\w+", expr))
        check(used <= VARIABLES.keys(), f"{title} uses {used - VARIABLES.keys()}")
        own = re.findall(r"kling_balancer_\w+(?!\w)(\{[^}]*\})?", expr)
        check(all('job=~"$job",instance=~"$instance"' in it for it in own), f"{title} ignores the variables")
    check_model(dashboard)
    check_provisioning()
    print(f"dashboard: {len(panels)} panels, each with the chosen data source")


def check_model(dashboard):
    """Read and written by Grafana Labs' own library, nothing of it is lost."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    lost = [path for path in lost_members(dashboard, known, "dashboard") if not path.endswith(OF_THE_PLUGIN)]
    check(not lost, f"Grafana does not know {lost}")


def lost_members(given, known, path):
    if isinstance(given, dict):
        for name, value in given.items():
            if not isinstance(known, dict) or name not in known:
                # What is empty need not be written.
                if value not in (None, [], {}):
                    yield f"{path}.{name}"
            else:
                yield from lost_members(value, known[name], f"{path}.{name}")
    elif isinstance(given, list):
        for idx, value in enumerate(given):
            yield from lost_members(value, known[idx] if idx < len(known) else None, f"{path}[{idx}]")
    elif given != known:
        yield f"{path} = {given!r}"


def check_provisioning():
    places = f"{DEPLOY}/grafana/provisioning"
    for file, key in (("datasources/prometheus.yaml", "datasources"), ("dashboards/kling-balancer.yaml", "providers")):
        settings = yaml.safe_load(open(f"{places}/{file}"))
        check(settings["apiVersion"] == 1 and len(settings[key]) == 1, f"{file} provisions nothing")


def check_live(live):
    wanted = {title: filled_in(expr) for title, expr in queries(load())}
    live.until_answered(wanted, MAY_BE_EMPTY)
    for variable in load()["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            values = live.api(f"label/{label}/values", {"match[]": filled_in(selector)})
            check(values, f"the variable {variable['name']} has no value")
    print(f"dashboard: all {len(wanted)} queries are answered by Prometheus")


def filled_in(expr):
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr
