#!/usr/bin/env python3
"""Opens a study's report in Chromium and tries what a reader would: its links, controls, widths and its print.

    scripts/report_check.py target/debug/wattention [--keep DIR]

The study is made up here, hostile names and missing numbers included. Exit status 0 if all is well, 1 with a line per
fault, 77 where there is no Chromium. With --keep, screenshots at three widths, light and dark, and a PDF are left in
DIR, to be looked at. Needs Python 3.9 and nothing else; CHROMIUM names another browser.
"""

import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTHS = (390, 820, 1400)
HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"

# Runs in a copy of the page that allows it; its findings are read from the page's text.
PROBE = """
(() => {
  const faults = [];
  const check = (holds, what) => { if (!holds) faults.push(what); };
  const all = (selector) => [...document.querySelectorAll(selector)];
  const key = (name) => new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true });
  check(document.title !== "broken", "a hostile name ran as a script");
  for (const link of all("a[href^='#']")) {
    check(document.getElementById(link.hash.slice(1)), `${link.hash} leads nowhere`);
  }
  const ids = all("[id]").map((element) => element.id);
  check(new Set(ids).size === ids.length, "two elements share an id");
  for (const file of all("a[download]")) {
    const [kind, text] = [file.href.slice(0, file.href.indexOf(",")), file.href.slice(file.href.indexOf(",") + 1)];
    const plain = decodeURIComponent(text);
    if (kind.includes("svg")) {
      const parsed = new DOMParser().parseFromString(plain, "image/svg+xml");
      check(!parsed.querySelector("parsererror"), `${file.download} is not XML`);
      check(!parsed.querySelector("script"), `${file.download} has a script`);
    } else {
      check(plain.split("\\r\\n").length > 2, `${file.download} has no rows`);
    }
  }
  check(all("a[download]").length > 20, "there are too few files to keep");
  for (const figure of all(".panel > svg")) {
    const names = (figure.getAttribute("aria-labelledby") || "").split(" ");
    check(names.every((id) => document.getElementById(id)?.textContent), "a figure has no text alternative");
  }
  const theme = document.querySelector("button.theme");
  const paper = () => getComputedStyle(document.body).backgroundColor;
  const before = paper();
  theme.click();
  check(paper() !== before, "the page does not turn dark or light");
  theme.click();
  check(paper() === before, "the page does not turn back");
  const tip = document.querySelector(".tip");
  const plot = all(".panel > svg").find((svg) => svg.tabIndex === 0);
  plot.focus();
  const first = tip.textContent;
  check(!tip.hidden && first.length > 0, "focus shows no value");
  plot.dispatchEvent(key("ArrowRight"));
  check(tip.textContent !== first, "the arrow keys do not go on");
  plot.dispatchEvent(key("Escape"));
  check(tip.hidden, "Escape does not hide the value");
  plot.querySelector(".point").dispatchEvent(new PointerEvent("pointerenter"));
  check(!tip.hidden, "the pointer shows no value");
  plot.blur();
  const table = document.querySelector("#cells table");
  const titles = [...table.tHead.rows[0].cells];
  const column = titles.findIndex((head) => head.textContent.startsWith("tokens"));
  const values = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].textContent.replace(/,/g, "")));
  const original = values().join();
  const press = () => titles[column].querySelector("button").click();
  const sorted = (sign) => values().every((value, i, all) => i === 0 || sign * (value - all[i - 1]) >= 0);
  press();
  check(sorted(1) && titles[column].ariaSort === "ascending", "a column does not sort upwards");
  press();
  check(sorted(-1) && titles[column].ariaSort === "descending", "a column does not sort downwards");
  press();
  check(values().join() === original && !titles[column].hasAttribute("aria-sort"), "a column does not return");
  const filter = document.getElementById("filter");
  const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden).length;
  const every = shown();
  filter.value = "large 4096";
  filter.dispatchEvent(new Event("input"));
  check(shown() > 0 && shown() < every, "the filter does not filter");
  filter.value = "";
  filter.dispatchEvent(new Event("input"));
  check(shown() === every, "the filter does not let go");
  const root = document.scrollingElement;
  if (root.scrollWidth > innerWidth) {
    const wide = all("main *").find((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll"));
    faults.push(`the page is wider than ${innerWidth}: ${root.scrollWidth}, ${wide && wide.outerHTML.slice(0, 120)}`);
  }
  document.body.append(Object.assign(document.createElement("pre"), { id: "probe", textContent: JSON.stringify(faults) }));
})();
"""


def measured(value):
    return {"kind": "measured", "value": value}


def absent(why):
    return {"kind": "absent", "why": why}


def study(energy):
    """Results of three models, two datasets and four lengths, and of a dense baseline, as `results.json` holds them."""
    cells = []
    models = {
        "led-base-16384": (1.0, 161_844_480, "led"), "led-large-16384": (2.6, 459_801_600, "led"),
        "bigbird-pegasus-large": (3.4, 576_891_904, "bigbird_pegasus"), "bart-base": (0.8, 139_420_416, "bart"),
    }
    for dataset, metric in (("qmsum", "geometric_mean"), ("qasper", "f1")):
        for length in (1024, 2048, 3072, 4096):
            for at, (model, (cost, parameters, family)) in enumerate(models.items()):
                if family == "bart" and length > 1024:
                    continue
                score = 14 + 2.2 * at * (at < 2) + 3 * (length / 4096) ** 0.5 - (dataset == "qasper") * 1.5 * at
                seconds = 900 * cost * (length / 1024) ** 1.1
                joules = 240 * seconds
                reading = measured if energy else lambda _: absent("no sensor: this machine has no powercap counters")
                # The smallest phases cannot be told apart.
                told = lambda part: reading(part * joules) if part > 0.05 else absent("not told apart, at most 9 kJ")
                phase = lambda name, part: {"phase": name, "pass": "forward", "seconds": measured(part * seconds),
                                            "energy_joules": told(part)}
                taken = lambda part: {"seconds": measured(part * seconds), "energy_joules": reading(part * joules)}
                shares = {"data": 0.02, "training": 1, "evaluation": 0.3, "checkpoint": 0.04, "rest": 0.1, "whole": 1.46}
                cells.append({
                    "run": f"{model}_{dataset}_{length}", "model": model, "family": family, "dataset": dataset,
                    "max_source_length": length, "precision": "tf32", "seed": 42, "protocol": "paper",
                    "device": "a made-up device", "batch_size": 24, "steps": 1200, "planned_steps": 36400,
                    "train_examples": 1257, "eval_examples": 272, "parameters": parameters,
                    "headline_metric": metric, "rouge1": measured(score + 9), "rouge2": measured(score - 7),
                    "rougeL": measured(score + 1), "geometric_mean": measured(score), "f1": measured(score),
                    "score_low": measured(score - 0.9), "score_high": measured(score + 0.8),
                    "train_loss_final": measured(2.5), "eval_loss": measured(2.75),
                    "train_seconds": measured(seconds), "train_samples_per_second": measured(28800 / seconds),
                    "train_tokens_per_second": measured(28800 * length / seconds), "eval_seconds": measured(seconds / 90),
                    "eval_samples_per_second": measured(24480 / seconds), "best_step": measured(700),
                    "peak_bytes_planned": {"kind": "predicted", "value": 4e9 * cost * length / 1024},
                    "peak_bytes_measured": measured(4.1e9 * cost * length / 1024),
                    "energy_joules": reading(joules), "mean_power_watts": reading(240.0),
                    "samples_per_second_per_watt": reading(28800 / joules), "joules_per_sample": reading(joules / 28800),
                    "utilisation_percent": reading(98 - 4 * at - length / 400),
                    "energy_note": "the whole board" if energy else "n/a: no sensor",
                    "phases_energy_joules": reading(joules),
                    "activities": {activity: taken(part) for activity, part in shares.items()},
                    "phases": [phase(f"encoder.{name}", part) for name, part in
                               (("attention", 0.34), ("feed_forward", 0.22), ("norm", 0.05))]
                    + [phase("decoder.cross", 0.12), phase("decoder.attention", 0.06), phase("head", 0.11),
                       phase("loss", 0.04), phase("optimizer", 0.04), phase("embedding", 0.02)],
                })
    cells[0]["train_seconds"] = {"kind": "predicted", "value": 800.0}
    cells[4]["eval_loss"] = absent(HOSTILE)
    cells[5]["model"] = HOSTILE
    return {
        "title": f"Made up for the browser {HOSTILE}", "environment": {"device": "a made-up device", "key": HOSTILE},
        "cells": cells, "failed": [{"cell": "led_qmsum_16384", "error": HOSTILE, "exit_code": 75}],
        "left": ["led_qmsum_8192"],
    }


def find_browser():
    named = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome"]
    return next((path for path in map(shutil.which, filter(None, named)) if path), None)


def chromium(browser, profile, *flags):
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
               "--disable-background-networking", f"--user-data-dir={profile}", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def report(binary, folder, energy):
    folder.mkdir(parents=True)
    results = folder / "made-up.json"
    results.write_text(json.dumps(study(energy)))
    subprocess.run([binary, "study", "report", results, "--output-dir", folder, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return folder / "report.html"


def check(browser, profile, page, folder):
    """Faults of one page at every width."""
    faults = []
    text = page.read_text()
    own = chromium(browser, profile, "--enable-logging=stderr", "--dump-dom", page.as_uri())
    if 'class="theme"' not in own.stdout:
        faults.append("the page's policy stops its own script")
    faults += [line for line in own.stderr.splitlines() if "CONSOLE" in line and ("Refused" in line or "Uncaught" in line)]
    probed = re.sub(r"; script-src '[^']*'", "; script-src 'unsafe-inline'", text)
    probed = probed.replace("</body>", f"<script>{PROBE}</script></body>")
    copy = folder / "probed.html"
    copy.write_text(probed)
    for width in WIDTHS:
        done = chromium(browser, profile, f"--window-size={width},1200", "--dump-dom", copy.as_uri())
        found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)
        if found is None:
            faults.append(f"{width}: the page's controls failed: {done.stderr[-400:]}")
        else:
            faults += [f"{width}: {fault}" for fault in json.loads(html.unescape(found.group(1)))]
    return faults


def keep(browser, profile, page, folder, name):
    text = page.read_text()
    for theme in ("light", "dark"):
        copy = folder / f"{name}-{theme}.html"
        copy.write_text(text.replace("<html ", f'<html data-theme="{theme}" ', 1))
        for width in WIDTHS:
            shot = folder / f"{name}-{theme}-{width}.png"
            chromium(browser, profile, f"--window-size={width},9000", f"--screenshot={shot}", copy.as_uri())
        copy.unlink()
    chromium(browser, profile, "--no-pdf-header-footer", f"--print-to-pdf={folder / name}.pdf", page.as_uri())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("--keep", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    browser = find_browser()
    if browser is None:
        print("skipped: there is no Chromium; install it, or name a browser in CHROMIUM")
        return 77
    faults = []
    with tempfile.TemporaryDirectory() as scratch:
        profile = Path(scratch) / "profile"
        for name, energy in (("with-energy", True), ("without-energy", False)):
            folder = Path(scratch) / name
            page = report(arguments.binary.resolve(), folder, energy)
            faults += [f"{name}: {fault}" for fault in check(browser, profile, page, folder)]
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                keep(browser, profile, page, arguments.keep.resolve(), name)
    for fault in faults:
        print(f"fault: {fault}")
    print(f"report: {len(faults)} faults at {len(WIDTHS)} widths, with and without energy")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
