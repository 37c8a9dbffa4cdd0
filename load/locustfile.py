"""Load for Tidegate, by Locust (https://locust.io); docs/load.md says how to run it.

The scenarios are classes, named on the command line or picked on the page:

  FreeBurst   A  a free consumer bursts over its limit, once: exactly the limit passes
  Upgraded    B  a consumer spends its free quota, is put on enterprise, and goes on
  Parallel    C  one of thousands of consumers, each with a keep-alive connection, within its limit
  Free, Pro, Enterprise  the mix: tiers, services, dear requests, pauses and bursts

When the load ends, what Locust saw is compared with what the gateway counted, status by status and service by service.
A difference, a decision that was made without the store, or an expectation that was not met is exit code 1.

Environment: TIDEGATE_URLS, where requests go, in turn (http://127.0.0.1:8080, or what --host says); TIDEGATE_ADMIN, the admin
API of each gateway (http://127.0.0.1:8081); a comma between several. TIDEGATE_ADMIN_TOKEN. LOAD_RATE, requests a second of
all users of scenario C together (4000).
"""

import itertools
import json
import os
import re
import time
import urllib.request
import uuid

import gevent
from locust import FastHttpUser, between, constant, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import WorkerRunner

URLS = os.environ.get("TIDEGATE_URLS", "http://127.0.0.1:8080").split(",")
ADMIN = os.environ.get("TIDEGATE_ADMIN", "http://127.0.0.1:8081").split(",")
TOKEN = os.environ.get("TIDEGATE_ADMIN_TOKEN", "")
RATE = float(os.environ.get("LOAD_RATE", "4000"))

in_turn = itertools.cycle(URLS)

# The quota of a minute on payments, in load/tidegate.yaml.
FREE_LIMIT = 10
SERVICES = ("payments", "marketing", "parallel")
# Seconds: the gateway counts a request when it is over, a moment after its client has the answer.
SETTLING = 5

def ask_admin(admin: str, method: str, path: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    request = urllib.request.Request(admin + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read()


def put_on_tier(consumer: str, tier: str) -> None:
    ask_admin(ADMIN[0], "PUT", f"/consumers/{consumer}/tier", {"tier": tier})


class Consumer(FastHttpUser):
    """A user: one consumer with one keep-alive connection."""

    abstract = True
    concurrency = 1
    host = URLS[0]
    tier = "free"

    def on_start(self) -> None:
        # New consumers each time, because what an earlier run used must not count.
        self.consumer = f"{self.tier}-{uuid.uuid4().hex[:12]}"
        if self.tier != "free":
            put_on_tier(self.consumer, self.tier)

    def ask(self, service: str, path: str = "/hello", method: str = "GET", **more) -> int:
        """Sends one request and names it by service and status, so that Locust counts these. 200 and 429 are not failures."""
        # At the end, Locust kills users that were asleep when it looked, even if they have sent a request since.
        if self.environment.runner.state == "cleanup":
            raise StopUser
        where = next(in_turn) if len(URLS) > 1 else ""
        with self.client.request(
            method, f"{where}/{service}{path}", headers={"x-user-id": self.consumer}, catch_response=True, **more
        ) as response:
            response.request_meta["name"] = f"{service} {response.status_code}"
            if response.status_code in (200, 429):
                response.success()
            else:
                response.failure(f"status {response.status_code}: {response.error or response.text}")
            return response.status_code

    def expect(self, what: str, got: int, least: int, most: int) -> None:
        """Records a failed check like a failed request: on the page, from every process, and in the exit code."""
        if least <= got <= most:
            return
        wrong = AssertionError(f"{got}, expected {least}" + ("" if least == most else f" to {most}"))
        self.environment.events.request.fire(
            request_type="CHECK", name=what, response_time=0, response_length=0, exception=wrong, context={}
        )


    def spend_free_quota(self, what: str, requests: int) -> None:
        began = time.monotonic()
        passed = [self.ask("payments") for _ in range(requests)].count(200)
        # A tenth of the limit comes back every six seconds, so a slow burst may pass one more.
        late = int((time.monotonic() - began) * FREE_LIMIT / 60)
        self.expect(what, passed, FREE_LIMIT, FREE_LIMIT + late)


class FreeBurst(Consumer):
    """Scenario A."""

    wait_time = constant(0)

    @task
    def burst(self) -> None:
        self.spend_free_quota("A: a free consumer gets through", FREE_LIMIT + 3)
        raise StopUser


class Upgraded(Consumer):
    """Scenario B."""

    wait_time = constant(0)

    @task
    def go_on(self) -> None:
        self.spend_free_quota("B: as a free consumer it gets through", FREE_LIMIT + 2)
        put_on_tier(self.consumer, "enterprise")
        changed = time.monotonic()
        # A tier takes effect on every gateway within a second, and the requests go to all of them in turn.
        in_a_row = 0
        while in_a_row < 2 * len(URLS) and time.monotonic() - changed < 20:
            in_a_row = in_a_row + 1 if self.ask("payments") == 200 else 0
        gevent.sleep(max(0.0, 1 - (time.monotonic() - changed)))
        denied = [self.ask("payments") for _ in range(30)].count(429)
        self.expect("B: on enterprise it is denied", denied, 0, 0)
        raise StopUser


class Parallel(Consumer):
    """Scenario C: all users together make LOAD_RATE requests a second, each at its own pace."""

    def wait_time(self) -> float:
        every = max(1, self.environment.runner.target_user_count) / RATE
        now = time.monotonic()
        # Start each user somewhere in its interval, or all would send at the same time.
        self.due = getattr(self, "due", now + every * (uuid.uuid4().int % 1000) / 1000) + every
        return max(0.0, self.due - now)

    @task
    def within_its_limit(self) -> None:
        self.expect("C: within its limit the status is", self.ask("parallel"), 200, 200)


class Mixed(Consumer):
    """Sends requests with pauses, and sometimes twenty in a row."""

    abstract = True
    wait_time = between(0.05, 0.5)

    @task(20)
    def pay(self) -> None:
        self.ask("payments")

    @task(10)
    def mail(self) -> None:
        self.ask("marketing")

    @task(2)
    def refund(self) -> None:
        self.ask("payments", "/refunds", "POST", data="amount=20")

    @task(1)
    def burst(self) -> None:
        for _ in range(20):
            self.ask("marketing")


class Free(Mixed):
    weight = 6


class Pro(Mixed):
    weight = 3
    tier = "pro"


class Enterprise(Mixed):
    weight = 1
    tier = "enterprise"


def counts_of_gateways() -> tuple[dict[str, int], int]:
    """Returns requests by "service status", and decisions without the store, of all gateways together."""
    requests: dict[str, int] = {}
    open_decisions = 0
    for admin in ADMIN:
        for line in ask_admin(admin, "GET", "/metrics").decode().splitlines():
            found = re.match(r"(\w+)\{(.*)\} (\S+)", line)
            if found is None:
                continue
            name, labels, value = found.groups()
            label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if name == "http_server_request_duration_seconds_count":
                key = f"{label['tidegate_service']} {label['http_response_status_code']}"
                requests[key] = requests.get(key, 0) + int(float(value))
            elif name == "tidegate_fail_open_total":
                open_decisions += int(float(value))
    return requests, open_decisions


before: tuple[dict[str, int], int] = ({}, 0)


def leads(environment: Environment) -> bool:
    """Says whether this process has the counts of all Locust processes."""
    return not isinstance(environment.runner, WorkerRunner)


@events.test_start.add_listener
def remember(environment: Environment, **_) -> None:
    global before
    if leads(environment):
        before = counts_of_gateways()
        gevent.spawn(end_when_all_are_done, environment)


def end_when_all_are_done(environment: Environment) -> None:
    """Stops the run once the users of A and B have done their one round, without waiting for --run-time."""
    runner = environment.runner
    had_users = False
    while runner.state not in ("stopped", "stopping", "cleanup"):
        had_users = had_users or runner.user_count > 0
        if had_users and runner.user_count == 0 and runner.state == "running":
            runner.stop() if environment.web_ui else runner.quit()
            return
        gevent.sleep(0.1)


@events.spawning_complete.add_listener
def say_so(**_) -> None:
    print("all users are there", flush=True)


@events.test_stop.add_listener
def compare(environment: Environment, **_) -> None:
    if not leads(environment):
        return
    # GET and POST have separate entries.
    ours: dict[str, int] = {}
    for (name, _method), entry in environment.stats.entries.items():
        if name.split(" ")[0] in SERVICES:
            ours[name] = ours.get(name, 0) + entry.num_requests
    deadline = time.monotonic() + SETTLING
    while True:
        requests, open_decisions = counts_of_gateways()
        theirs = {key: count - before[0].get(key, 0) for key, count in requests.items()}
        theirs = {key: count for key, count in theirs.items() if count and key.split(" ")[0] in SERVICES}
        if ours == theirs or time.monotonic() > deadline:
            break
        gevent.sleep(0.1)
    without_store = open_decisions - before[1]

    print(f"\n{'':<24}{'Locust':>10}{'gateway':>10}")
    for key in sorted(ours.keys() | theirs.keys()):
        mine, counted = ours.get(key, 0), theirs.get(key, 0)
        print(f"{key:<24}{mine:>10}{counted:>10}{'' if mine == counted else '  DIFFER'}")
    print(f"{'decided without store':<24}{'':>10}{without_store:>10}")
    total = environment.stats.total
    p50, p99, p999 = (total.get_response_time_percentile(share) for share in (0.5, 0.99, 0.999))
    print(f"{total.total_rps:.0f} requests a second; p50, p99, p99.9 in whole ms: {p50:.0f}, {p99:.0f}, {p999:.0f}")
    for failure in environment.stats.errors.values():
        print(f"{failure.occurrences} times {failure.name}: {failure.error}")
    holds = bool(ours) and ours == theirs and without_store == 0 and not environment.stats.errors
    print("holds" if holds else "DOES NOT HOLD", flush=True)
    environment.process_exit_code = 0 if holds else 1

