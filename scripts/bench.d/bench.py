"""Runs what `scripts/bench` measures: see there, and docs/performance.md for what each figure is."""

import argparse
import glob
import http.client
import json
import multiprocessing
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
BINARIES = pathlib.Path(os.environ["TWOFOLD_BINARIES"])
RIVALS = pathlib.Path(os.environ["TWOFOLD_BENCH"])
PARTS = ["decode", "ingest", "speed", "batch", "incremental", "rivals", "freshness", "recovery", "memory"]
# How many times as many events streams get: what starting takes is in it, and weighs little then.
STREAMED = 4
TOML = """[speed]
listen = "127.0.0.1:0"
[serve]
listen = "127.0.0.1:0"
[batch]
schedule = "off"
"""


class Report:
    """The figures, as they come in."""

    def __init__(self, out):
        self.out, self.figures, self.part = out, [], ""

    def begin(self, part, what):
        self.part = part
        print(f"\n{part}: {what}", flush=True)

    def take(self, name, unit, values, better="less", aim=None):
        """A figure: the median of some values, and how far they spread."""
        values = sorted(values)
        median = statistics.median(values)
        self.figures.append({
            "part": self.part, "name": name, "unit": unit, "median": median, "least": values[0],
            "most": values[-1], "runs": len(values), "better": better, "aim": aim,
        })
        spread = f"({number(values[0])} to {number(values[-1])})" if len(values) > 1 else ""
        print(f"  {name:58} {number(median):>9} {unit} {spread}{f'   aim: {aim}' if aim else ''}", flush=True)
        self.write()
        return median

    def skip(self, what, why):
        self.figures.append({"part": self.part, "name": what, "skipped": why})
        print(f"  {what}: LEFT OUT: {why}", flush=True)

    def take_over(self, path):
        """What twofold-bench wrote."""
        for figure in json.loads(pathlib.Path(path).read_text())["figures"]:
            if "per_second" in figure:
                self.figures.append({
                    "part": figure["part"], "name": figure["name"], "unit": f"{figure['unit']}/s",
                    "median": figure["per_second"], "least": figure["least"], "most": figure["most"],
                    "better": "more", "cpu_s_per_million": figure["cpu_s_per_million"],
                })
            else:
                self.figures.append({
                    "part": figure["part"], "name": figure["name"], "unit": "", "median": figure["value"],
                    "aim": figure["aim"],
                })
        self.write()

    def write(self):
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "bench.json").write_text(json.dumps({"machine": machine(), "figures": self.figures}, indent=1))
        lines = ["| part | figure | median | least | most | aim |", "| --- | --- | ---: | ---: | ---: | --- |"]
        for f in self.figures:
            if "skipped" in f:
                lines.append(f"| {f['part']} | {f['name']} | left out: {f['skipped']} | | | |")
                continue
            cpu = f.get("cpu_s_per_million")
            name = f["name"] + (f" ({cpu:.2f} CPU s per million)" if cpu else "")
            least, most = (number(f[k]) if k in f else "" for k in ("least", "most"))
            lines.append(f"| {f['part']} | {name} | {number(f['median'])} {f['unit']} | {least} | {most} | {f.get('aim') or ''} |")
        (self.out / "bench.md").write_text("\n".join(lines) + "\n")

    def chart(self):
        """Processor seconds per million events of all that has them, as bars."""
        bars = []
        for f in self.figures:
            value = f.get("cpu_s_per_million") or (f.get("median") if f.get("unit") == "CPU s/M" else None)
            if value and f["part"] in ("speed", "batch", "rivals"):
                bars.append((f"{f['part']}: {f['name']}", value))
        if not bars:
            return
        width, left, row = 960, 430, 22
        scale = (width - left - 90) / max(value for _, value in bars)
        text = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{row * len(bars) + 40}" '
                'font-family="sans-serif" font-size="13">',
                '<rect width="100%" height="100%" fill="white"/>',
                '<text x="10" y="20">processor seconds per million events; less is better</text>']
        for n, (name, value) in enumerate(bars):
            y = 30 + n * row
            name = name.replace("&", "&amp;").replace("<", "&lt;")
            color = "#b65b2a" if any(r in name for r in ("Flink", "Spark", "DuckDB", "Polars", "engine")) else "#2a6fb6"
            text.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>')
            text.append(f'<rect x="{left}" y="{y + 3}" width="{max(value * scale, 1):.1f}" height="{row - 8}" fill="{color}"/>')
            text.append(f'<text x="{left + value * scale + 6:.1f}" y="{y + 14}">{value:.2f}</text>')
        (self.out / "bench.svg").write_text("\n".join(text) + "\n</svg>\n")


def number(value):
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    if value >= 1e4:
        return f"{value / 1e3:.1f}k"
    return f"{value:.3f}" if value < 100 else f"{value:.1f}"


def machine():
    model = ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": os.cpu_count(), "cpu": model, "memory": memory, "system": platform.platform()}


def cpu_of(process):
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status_of(process, what):
    for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    return 0


def run(*command):
    """Runs a command to its end: seconds on the clock, processor seconds, peak memory in bytes, and its output."""
    started = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {output[-2000:]}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output


def bench(*arguments):
    return run(BINARIES / "twofold-bench", *arguments)


class Server:
    """A project with `twofold up`."""

    def __init__(self, directory, views, toml=TOML):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.directory / "views.sql").exists():
            bench("project", "--to", self.directory, *[f"--view={view}" for view in views])
        (self.directory / "twofold.toml").write_text(toml)
        self.start()

    def start(self):
        log = open(self.directory / "up.log", "a")
        here = self.directory / "data/run/serve.json"
        here.unlink(missing_ok=True)
        self.process = subprocess.Popen([str(BINARIES / "twofold"), "-p", str(self.directory), "up"], stdout=log, stderr=log)
        while True:
            if self.process.poll() is not None:
                raise RuntimeError((self.directory / "up.log").read_text()[-2000:])
            try:
                text = here.read_text()
                self.address = text.split("http://", 1)[1].split('"', 1)[0].rstrip("/")
                break
            except (OSError, IndexError):
                time.sleep(0.002)

    def connection(self):
        host, port = self.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        connection.connect()
        return connection

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()

    def command(self, *arguments):
        return run(BINARIES / "twofold", "-p", self.directory, *arguments)

    def wait_folded(self):
        """Until an answer has all that is acknowledged."""
        ask(self.connection(), "GET", "/v1/views/" + self.view() + "?limit=1")

    def view(self):
        text = (self.directory / "views.sql").read_text()
        return text.split("CREATE MATERIALIZED VIEW ", 1)[1].split()[0]


def ask(connection, method, path, body=None, kind="application/x-ndjson"):
    connection.request(method, path, body, {"Content-Type": kind} if body else {})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status}: {text[:500]}")
    return text


def events(directory, thousands, start=0, users=1000, each=100):
    """Files of ndjson below a directory, of some thousand events each."""
    directory.mkdir(parents=True, exist_ok=True)
    for at in range(start, start + thousands, each):
        file = directory / f"{at:08}.ndjson"
        if not file.exists():
            bench("events", "--to", file, "--from", at, "--thousands", min(each, start + thousands - at), "--users", users)
    return directory


def bodies(directory, rows=10_000):
    for file in sorted(directory.glob("*.ndjson")):
        lines = file.read_bytes().splitlines(keepends=True)
        for at in range(0, len(lines), rows):
            yield b"".join(lines[at:at + rows]), len(lines[at:at + rows])


def post_all(server, pieces, at_once=4):
    """Sends bodies over some connections: how many events were acknowledged."""
    pieces, lock, sent, errors = iter(pieces), threading.Lock(), [0], []

    def work():
        connection = server.connection()
        while not errors:
            with lock:
                piece = next(pieces, None)
            if piece is None:
                return
            try:
                ask(connection, "POST", "/v1/streams/events", piece[0])
            except Exception as e:
                errors.append(e)
                return
            with lock:
                sent[0] += piece[1]

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sent[0]


def decode(report, args, scratch):
    report.begin("decode", "ndjson to Arrow on one core, and parsers alone")
    file = scratch / "decode.json"
    print(bench("decode", "--runs", args.runs, "--thousands", args.thousands, "--json", file)[3], end="")
    report.take_over(file)
    ours = max(f["median"] for f in report.figures if f["name"].startswith("twofold, ") and f["name"].endswith(", MB/s"))
    lines = run(BINARIES / "twofold-bench-parsers", events(scratch / "decode", 200, each=200) / "00000000.ndjson", args.runs)
    rates = {}
    for line in lines[3].splitlines():
        name, rate = line.split("\t")
        rates.setdefault(name, []).append(float(rate))
    best = max(report.take(f"{name}, alone", "MB/s", rate, "more") for name, rate in rates.items())
    report.take("time of decoding against the fastest parser alone", "", [best / ours], aim="at most 1.2")


def ingest(report, args, scratch):
    report.begin("ingest", "acknowledged durable, one view (campaigns_10s), 10,000 events a request, 4 at once")
    source = events(scratch / "events", args.thousands)
    pieces = list(bodies(source))
    over_http, by_command, cpu = [], [], []
    for number_of in range(args.runs):
        server = Server(scratch / f"ingest-{number_of}", ["campaigns_10s"])
        before, started = cpu_of(server.process.pid), time.monotonic()
        count = post_all(server, pieces)
        over_http.append(count / (time.monotonic() - started))
        server.wait_folded()
        cpu.append((cpu_of(server.process.pid) - before) / count * 1e6)
        wall = server.command("ingest", "events", *sorted(source.glob("*.ndjson")))[0]
        by_command.append(count / wall)
        server.stop()
        shutil.rmtree(server.directory)
    report.take("HTTP", "events/s", over_http, "more")
    report.take("HTTP, the server's processor time until folded", "CPU s/M", cpu)
    report.take("twofold ingest", "events/s", by_command, "more")


def speed(report, args, scratch):
    report.begin("speed", "fold beside the engine's own query, and the speed layer from ndjson to committed state")
    for part, thousands in [("fold", args.thousands), ("speed", STREAMED * args.thousands)]:
        file = scratch / f"{part}.json"
        print(bench(part, "--runs", args.runs, "--thousands", thousands, "--json", file)[3], end="")
        report.take_over(file)


def archived(scratch, thousands, views, users=1000):
    """A project whose archive holds events, without batch views."""
    directory = scratch / f"archive-{thousands}-{users}"
    if not directory.exists():
        server = Server(directory, views)
        for at in range(0, thousands, 1000):
            source = events(scratch / "piece", min(1000, thousands - at), at, users)
            post_all(server, bodies(source))
            shutil.rmtree(source)
        server.command("batch", "--view", views[0])
        server.stop()
    return directory


def batch(report, args, scratch):
    millions = args.batch_thousands / 1000
    report.begin("batch", f"twofold batch --full over {millions:g} M archived events, all cores, its start included, beside an idle server")
    views = ["campaigns_10s", "users"]
    directory = archived(scratch, args.batch_thousands, views)
    store, server = directory / "data/store", Server(directory, views)
    total, ours = args.batch_thousands * 1000, {}
    for view in views:
        walls, cpus, peaks = [], [], []
        server.command("batch", "--full", "--view", view)
        for _ in range(args.runs):
            wall, cpu, peak, _ = server.command("batch", "--full", "--view", view)
            walls.append(wall), cpus.append(cpu / total * 1e6), peaks.append(peak / 1e6)
        ours[view] = report.take(f"{view}: twofold", "s", walls)
        report.take(f"{view}: twofold", "CPU s/M", cpus)
        report.take(f"{view}: twofold, peak memory", "MB", peaks)
    server.stop()
    files = store / "archive/events"
    parquet = scratch / "parquet"
    shutil.rmtree(parquet, ignore_errors=True)
    parquet.mkdir()
    for file in files.glob("**/*.parquet"):
        if "_rejected" not in str(file):
            (parquet / file.name).symlink_to(file)
    file = scratch / "engine.json"
    bench("parquet", "--archive", parquet, "--runs", args.runs, "--json", file)
    for figure in json.loads(file.read_text())["figures"]:
        wall = total / figure["per_second"]
        report.take(f"{figure['name']}: DataFusion alone", "s", [wall])
        report.take(f"{figure['name']}: time against DataFusion alone", "", [ours[figure["name"]] / wall])
    for name, title in [("duckdb", "DuckDB"), ("polars", "Polars"), ("spark", "Spark")]:
        found = rival(report, "batch", name, title, parquet, directory / "campaigns.csv", args.runs)
        for view, runs in found.items():
            wall = report.take(f"{view}: {title}", "s", [r["wall"] for r in runs])
            report.take(f"{view}: {title}", "CPU s/M", [r["cpu"] / total * 1e6 for r in runs])
            report.take(f"{view}: {title}, peak memory", "MB", [r["peak"] / 1e6 for r in runs])
            aim = {"campaigns_10s": "at most 1.2", "users": "at most 0.4"}[view] if name == "duckdb" else None
            report.take(f"{view}: time against {title}'s", "", [ours[view] / wall], aim=aim)


def rival(report, kind, name, title, *arguments):
    python = RIVALS / name / "bin/python"
    if not (RIVALS / name / "installed").exists():
        report.skip(title, "not installed, see the beginning")
        return {}
    try:
        output = subprocess.run([str(python), str(HERE / "rivals.py"), kind, name, *map(str, arguments)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=3000)
    except subprocess.TimeoutExpired:
        report.skip(title, "not done within 50 minutes")
        return {}
    if output.returncode:
        report.skip(title, "it failed: " + output.stderr.strip()[-300:].replace("\n", " "))
    found = {}
    for line in output.stdout.splitlines():
        if line.startswith("{"):
            told = json.loads(line)
            found.setdefault(told["what"], []).append(told)
    return found


def incremental(report, args, scratch):
    step = args.batch_thousands // 16 // 100 * 100
    report.begin("incremental", f"a batch run after {(step // 5) * 1000:,} more events, over archives of 1, 4 and 16 times {step * 1000:,}")
    server = Server(scratch / "incremental", ["campaigns_10s"])
    at, times = 0, {}

    def append(thousands):
        nonlocal at
        source = events(scratch / "piece", thousands, at)
        post_all(server, bodies(source))
        shutil.rmtree(source)
        at += thousands

    for factor in (1, 4, 16):
        while at < factor * step:
            append(min(1000, factor * step - at))
        server.command("batch")
        walls, cpus = [], []
        for _ in range(args.runs):
            append(step // 5)
            wall, cpu, _, _ = server.command("batch")
            walls.append(wall), cpus.append(cpu)
        times[factor] = report.take(f"{factor} times", "s", walls)
        report.take(f"{factor} times, processor time", "CPU s", cpus)
    server.stop()
    report.take("16 times the archive against 1", "", [times[16] / times[1]], aim="at most 1.1")


def rivals(report, args, scratch):
    report.begin("rivals", "Spark Structured Streaming and Flink on the same ndjson with checkpoints, warm")
    source, warm = events(scratch / "more", STREAMED * args.thousands), events(scratch / "warm", args.thousands, 50_000)
    total = STREAMED * args.thousands * 1000
    ours = {f["name"]: f["cpu_s_per_million"] for f in report.figures if f["part"] == "speed" and "cpu_s_per_million" in f}
    bench("project", "--to", scratch_dir(scratch / "campaigns"))
    campaigns = scratch / "campaigns/campaigns.csv"
    for name, title in [("spark", "Spark"), ("flink", "Flink")]:
        state = scratch_dir(scratch / f"state-{name}")
        for view, runs in rival(report, "stream", name, title, source, warm, campaigns, state, args.runs).items():
            report.take(f"{view}: {title}", "events/s", [total / r["wall"] for r in runs], "more")
            cpu = report.take(f"{view}: {title}", "CPU s/M", [r["cpu"] / total * 1e6 for r in runs])
            report.take(f"{view}: {title}, peak memory", "MB", [r["peak"] / 1e6 for r in runs])
            mine = ours.get({"campaigns_10s": "campaigns by 10 s", "users": "1 M users, count and distinct"}[view])
            if mine:
                aim = {("campaigns_10s", "flink"): "at most 0.2", ("campaigns_10s", "spark"): "at most 0.125"}
                report.take(f"{view}: twofold's processor time against {title}'s", "", [mine / cpu],
                            aim=aim.get((view, name), "at most 0.1"))


def scratch_dir(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def keep_sending(address, pieces, per_second, stop):
    """Sends bodies of 1/100 s each at a rate, until told to stop."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port))
    started, sent = time.monotonic(), 0
    while not stop.is_set():
        due = (time.monotonic() - started) * per_second
        if sent + len(pieces[0][1]) > due:
            time.sleep(0.001)
            continue
        body, lines = pieces[(sent // len(pieces[0][1])) % len(pieces)]
        connection.request("POST", "/v1/streams/events", body, {"Content-Type": "application/x-ndjson"})
        connection.getresponse().read()
        sent += len(lines)


def freshness(report, args, scratch):
    capacity = next((f["median"] for f in report.figures if f["part"] == "ingest" and f["name"] == "HTTP"), 200_000)
    report.begin("freshness", "from sending an event to an answer with it, on keep-alive HTTP, with others coming in")
    lines = (events(scratch / "events", 100) / "00000000.ndjson").read_bytes().splitlines(keepends=True)
    for title, rate in [("20,000 events/s", 20_000), ("10 % of capacity", capacity * 0.1), ("50 %", capacity * 0.5), ("80 %", capacity * 0.8)]:
        server = Server(scratch_dir(scratch / "freshness"), ["users"])
        each = max(int(rate / 100), 1)
        pieces = [(b"".join(lines[at:at + each]), lines[at:at + each]) for at in range(0, len(lines) - each, each)]
        stop = multiprocessing.Event()
        load = multiprocessing.Process(target=keep_sending, args=(server.address, pieces, rate, stop))
        load.start()
        time.sleep(1)
        writer, reader, times = server.connection(), server.connection(), []
        marker = json.loads(lines[0])
        ended = time.monotonic() + args.seconds
        while time.monotonic() < ended:
            user = f"marker-{len(times)}"
            body = json.dumps({**marker, "user_id": user})
            started = time.monotonic()
            ask(writer, "POST", "/v1/streams/events", body)
            while f'"{user}"'.encode() not in ask(reader, "GET", f"/v1/views/users?user_id={user}"):
                pass
            times.append((time.monotonic() - started) * 1e3)
            time.sleep(0.005)
        stop.set()
        load.join()
        server.stop()
        times.sort()
        aims = ("under 5", "under 15") if title.startswith("20,000") else (None, None)
        report.take(f"{title} ({number(rate)}/s): p50", "ms", [times[len(times) // 2]], aim=aims[0])
        report.take(f"{title} ({number(rate)}/s): p99", "ms", [times[len(times) * 99 // 100]], aim=aims[1])


def recovery(report, args, scratch):
    report.begin("recovery", f"kill -9 after {args.thousands * 1000:,} events, until an answer over HTTP has all of them")
    times = []
    source = events(scratch / "events", args.thousands)
    server = Server(scratch_dir(scratch / "recovery"), ["users"])
    post_all(server, bodies(source))
    path = "/v1/sql"
    body = json.dumps({"sql": "SELECT sum(n) AS n FROM users"})
    count = args.thousands * 1000
    for _ in range(args.runs):
        ask(server.connection(), "POST", path, body, "application/json")
        server.stop(signal.SIGKILL)
        started = time.monotonic()
        server.start()
        text = ask(server.connection(), "POST", path, body, "application/json").decode()
        times.append(time.monotonic() - started)
        if str(count) not in text:
            raise RuntimeError(f"expected {count} events after recovery, found {text[:300]}")
    server.stop()
    report.take("kill -9 to a fresh answer", "s", times, aim="under 1")


def memory(report, args, scratch):
    report.begin("memory", "the most that was resident")
    source = events(scratch / "events", args.thousands)
    for view in ("campaigns_10s", "users"):
        server = Server(scratch_dir(scratch / "memory"), [view])
        post_all(server, bodies(source))
        server.wait_folded()
        aim = "under 2,048" if view == "users" else None
        report.take(f"all layers in one process, {view}, {args.thousands * 1000:,} events", "MiB",
                    [status_of(server.process.pid, "VmHWM") / 2**20], aim=aim)
        server.stop()
    groups = args.group_thousands
    directory = archived(scratch, groups, ["users"], users=10**12)
    server = Server(directory, ["users"], TOML + '[memory]\nlimit = "512MiB"\n')
    wall, _, peak, _ = server.command("batch", "--full", "--view", "users")
    server.stop()
    report.take(f"a full run with {groups * 1000:,} groups, limit = 512MiB: resident", "MiB", [peak / 2**20], aim="at most 1,024")
    report.take(f"a full run with {groups * 1000:,} groups, limit = 512MiB", "s", [wall])


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer events and runs: to try the script, not for figures")
    parser.add_argument("--out", type=pathlib.Path, default=RIVALS / "out", help="where bench.json, .md and .svg go")
    args = parser.parse_args()
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}: there are {', '.join(PARTS)}")
    quick = args.quick
    args.runs, args.thousands, args.seconds = (2, 200, 3) if quick else (5, 1000, 10)
    args.batch_thousands, args.group_thousands = (1600, 500) if quick else (8_000, 10_000)
    report, failed = Report(args.out), []
    scratch = pathlib.Path(tempfile.mkdtemp(dir=RIVALS, prefix="run-"))
    try:
        for part in PARTS:
            if args.parts and part not in args.parts:
                continue
            try:
                globals()[part](report, args, scratch)
            except Exception as e:
                report.skip(part, f"it failed: {e}")
                failed.append(part)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    report.write()
    report.chart()
    print(f"\n{args.out}/bench.md, bench.json, bench.svg")
    sys.exit(f"scripts/bench: {', '.join(failed)} failed" if failed else 0)


if __name__ == "__main__":
    main()
