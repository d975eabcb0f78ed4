# SPDX-License-Identifier: Apache-2.0
"""Drives a verifier with python3-duo-client, as an application would.

Reads {"ikey", "skey", "host", "port", "ca", "calls": [[method, {arguments}], ...]}
from standard input and prints a JSON list with one object per call: {"result": ...}
or {"error": text, "status": HTTP status or null}.
"""

import json
import sys

import duo_client


def call(client, method, arguments):
    try:
        result = getattr(client, method)(**arguments)
        if isinstance(result, bytes):
            result = {"bytes": len(result)}
        return {"result": result}
    except RuntimeError as e:  # what the library raises for an answer that is no success
        return {"error": str(e), "status": getattr(e, "status", None)}


def main():
    session = json.load(sys.stdin)
    client = duo_client.Auth(
        session["ikey"], session["skey"], session["host"],
        port=session["port"], ca_certs=session["ca"], timeout=session.get("timeout", 90))
    client.user_agent = "integration test"
    answers = []
    for method, arguments in session["calls"]:
        answers.append(call(client, method, arguments))
    json.dump(answers, sys.stdout)


main()
