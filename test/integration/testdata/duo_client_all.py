# SPDX-License-Identifier: Apache-2.0
"""Calls every method that duo_client.Admin and duo_client.Auth have.

Reads {"admin": {"ikey", "skey"}, "auth": {...}, "host", "port", "ca"} from standard
input. The methods are found by introspection, so that none can be forgotten: one
that is not called is a problem. Prints {"problems": [text], "calls": {method: number},
"left_out": {"VERB /path": detail}}; a left-out call has answered 404 with a JSON body
of code 40401 whose detail says that it is left out.
"""

import inspect
import json
import struct
import sys
import time
import zlib

import duo_client
import duo_client.client

problems, calls, left_out = [], {}, {}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))
       + chunk(b"IDAT", zlib.compress((b"\0" + b"\x7f" * 16) * 16)) + chunk(b"IEND", b""))


class Api:
    """Calls methods of a client of the library by name and checks what comes back."""

    def __init__(self, name, client):
        self.name, self.client, self.last = name, client, None
        inner = client.api_call

        def api_call(method, path, params):
            self.last = method + " " + path
            return inner(method, path, params)

        client.api_call = api_call

    def __call__(self, method, *args, check=None, absent=False, missing=False, **kwargs):
        what = self.name + "." + method
        calls[what] = calls.get(what, 0) + 1
        try:
            got = getattr(self.client, method)(*args, **kwargs)
            if inspect.isgenerator(got):
                got = list(got)
        except RuntimeError as e:
            data = getattr(e, "data", None) or {}
            if (absent or missing) and getattr(e, "status", 0) == 404 and data.get("code") == 40401:
                if absent:
                    detail = data.get("message_detail") or ""
                    if not detail.startswith("left out:"):
                        problems.append("%s: 404 without a reason: %r" % (what, data))
                    left_out[self.last] = detail
                return None
            problems.append("%s%r%r (%s): %s" % (what, args, kwargs, self.last, e))
            return None
        if absent or missing:
            problems.append("%s: answered %r, want a 404" % (what, got))
        elif check is not None:
            try:
                good = check(got)
            except (KeyError, TypeError, IndexError, AttributeError) as e:
                good = e
            if good is not True:
                problems.append("%s%r%r gave %r (%r)" % (what, args, kwargs, got, good))
        return got

    def all_called(self):
        base = {n for n, _ in inspect.getmembers(duo_client.client.Client, callable)}
        for name, _ in inspect.getmembers(type(self.client), inspect.isfunction):
            if not name.startswith("_") and name not in base and self.name + "." + name not in calls:
                problems.append(self.name + "." + name + " is not called")


def has(key, value):
    return lambda got: any(o[key] == value for o in got)


def nonempty(got):
    return len(got) > 0


def lists(api, name, check, *args):
    """A list as a whole, a page of it, and the generator under whichever name it has."""
    api(name, *args, check=check)
    api(name, *args, limit=1, check=lambda got: len(got) <= 1)
    for suffix in ("_iterator", "_generator"):
        if hasattr(api.client, name + suffix):
            api(name + suffix, *args, check=check)


def people(a):
    u = a("add_user", "pyuser", realname="Py User", status="active", notes="n", email="py@example.org", firstname="Py",
          lastname="User", alias1="pyalias", alias2="pysecond",
          check=lambda u: u["username"] == "pyuser" and u["alias1"] == "pyalias" and u["alias3"] is None
          and u["email"] == "py@example.org" and u["last_login"] is None and isinstance(u["created"], int))
    uid = u["user_id"]
    a("update_user", uid, username="pyuser", realname="Other", status="bypass", notes="", email="o@example.org", firstname="O",
      lastname="T", aliases="alias1=pyfirst&alias3=pythird",
      check=lambda u: u["alias1"] == "pyfirst" and u["alias2"] == "pysecond" and u["alias3"] == "pythird" and u["status"] == "bypass")
    a("update_user", uid, status="active", alias1="pyalias", alias4="", check=lambda u: u["status"] == "active")
    a("get_user_by_id", uid, check=lambda u: u["realname"] == "Other")
    a("get_users_by_name", "PYALIAS", check=has("user_id", uid))
    lists(a, "get_users", nonempty)
    code = a("enroll_user", "pyenrolled", "e@example.org", valid_secs=3600, check=nonempty)
    if not isinstance(code, str):
        problems.append("enroll_user gave no code: %r" % code)

    p = a("add_phone", number="+15551230099", extension="7", name="desk", type="landline", platform="unknown", predelay="1", postdelay="2",
          check=lambda p: p["number"] == "+15551230099" and p["type"] == "Landline" and p["predelay"] == "1" and p["last_seen"] == "")
    a("update_phone", p["phone_id"], number="+15551230098", extension="", name="mobile", type="mobile", platform="Generic Smartphone",
      predelay="", postdelay="", check=lambda p: p["type"] == "Mobile" and p["predelay"] is None and p["extension"] == "")
    a("get_phone_by_id", p["phone_id"], check=lambda p: p["name"] == "mobile" and p["sms_passcodes_sent"] is False)
    a("get_phones_by_number", "+15551230098", check=has("phone_id", p["phone_id"]))
    lists(a, "get_phones", nonempty)
    a("add_user_phone", uid, p["phone_id"])
    lists(a, "get_user_phones", has("phone_id", p["phone_id"]), uid)
    a("create_activation_url", p["phone_id"], valid_secs=60, install=1,
      check=lambda r: r["valid_secs"] == 60 and nonempty(r["activation_barcode"]) and nonempty(r["installation_url"]))
    a("send_sms_activation_to_phone", p["phone_id"], valid_secs=60, install=1, installation_msg="get <insturl>", activation_msg="go <acturl>",
      check=lambda r: r["activation_msg"] == "go " + r["activation_url"] and r["installation_msg"].startswith("get https://"))
    a("send_sms_installation", p["phone_id"], installation_msg="get <insturl>", check=lambda r: r["installation_msg"].startswith("get https://"))
    a("delete_user_phone", uid, p["phone_id"])
    a("delete_phone", p["phone_id"])
    a("get_phone_by_id", p["phone_id"], missing=True)

    d = a("add_desktoptoken", "linux", name="pc", check=lambda d: d["platform"] == "linux" and d["users"] == [])
    did = d["desktoptoken_id"]
    a("update_desktoptoken", did, platform="linux", name="laptop", check=lambda d: d["name"] == "laptop")
    a("get_desktoptoken_by_id", did, check=lambda d: d["type"] == "Desktop Token")
    lists(a, "get_desktoptokens", has("desktoptoken_id", did))
    a("add_user_phone", uid, did)
    a("activate_desktoptoken", did, valid_secs=60, check=lambda r: r["valid_secs"] == 60 and r["activation_url"] in r["activation_msg"])
    a("delete_desktoptoken", did)

    secret = "3132333435363738393031323334353637383930"
    made = [
        a("add_hotp6_token", "py-h6", secret, counter="0", check=lambda t: t["type"] == "h6" and t["totp_step"] is None),
        a("add_hotp8_token", "py-h8", secret, check=lambda t: t["type"] == "h8"),
        a("add_totp6_token", "py-t6", secret, totp_step="30", check=lambda t: t["type"] == "t6" and t["totp_step"] == 30),
        a("add_totp8_token", "py-t8", secret, check=lambda t: t["type"] == "t8"),
        a("add_yubikey_token", "1234567", "010203040506", "000102030405060708090a0b0c0d0e0f", check=lambda t: t["type"] == "yk"),
    ]
    h6, t6 = made[0]["token_id"], made[2]["token_id"]
    a("update_token", t6, totp_step="60", check=lambda t: t["totp_step"] == 60)
    a("get_token_by_id", h6, check=lambda t: t["serial"] == "py-h6" and t["users"] == [])
    a("get_tokens_by_serial", "h6", "py-h6", check=has("token_id", h6))
    lists(a, "get_tokens", nonempty)
    a("resync_hotp_token", h6, "755224", "287082", "359152")  # RFC 4226, appendix D
    a("add_user_token", uid, h6)
    lists(a, "get_user_tokens", has("token_id", h6), uid)
    a("delete_user_token", uid, h6)
    for t in made:
        a("delete_token", t["token_id"])

    a("add_user_bypass_codes", uid, count=2, valid_secs=3600, remaining_uses=3, check=lambda c: len(c) == 2)
    a("add_user_bypass_codes", uid, codes=["123456789", "987654321"], check=lambda c: c == ["123456789", "987654321"])
    lists(a, "get_user_bypass_codes", lambda c: len(c) == 2, uid)
    lists(a, "get_bypass_codes", nonempty)
    listed = a("get_user_bypass_codes", uid, check=nonempty)
    a("delete_bypass_code_by_id", listed[0]["bypass_code_id"])

    for name in ("get_user_u2ftokens", "get_user_webauthncredentials"):
        lists(a, name, lambda got: got == [], uid)
    for name in ("get_u2ftokens", "get_webauthncredentials"):
        lists(a, name, lambda got: got == [])
    for name in ("get_u2ftoken_by_id", "delete_u2ftoken", "get_webauthncredential_by_id", "delete_webauthncredential"):
        a(name, "WANONE", missing=True)
    a("sync_user", "pyuser", "DXNONE", absent=True)
    return uid


def groups(a, uid):
    g = a("create_group", "pygroup", desc="d", status="active", push_enabled=True, sms_enabled=True, voice_enabled=True,
          mobile_otp_enabled=True, u2f_enabled=True, check=lambda g: g["name"] == "pygroup" and g["status"] == "active")
    gid = g["group_id"]
    a("modify_group", gid, desc="other", status="bypass", check=lambda g: g["desc"] == "other")
    a("modify_group", gid, name="pygroup", status="active")
    for version in (1, 2):
        a("get_group", gid, api_version=version, check=lambda g: g["name"] == "pygroup")
    lists(a, "get_groups", has("group_id", gid))
    a("add_user_group", uid, gid)
    lists(a, "get_user_groups", has("group_id", gid), uid)
    lists(a, "get_group_users", has("user_id", uid), gid)
    a("delete_user_group", uid, gid)
    a("delete_group", gid)


def integrations(a):
    i = a("create_integration", "pyint", "authapi", notes="n", greeting="g", enroll_policy="enroll", username_normalization_policy="None",
          trusted_device_days=0, ip_whitelist=["192.0.2.1"], groups_allowed="", self_service_allowed=False,
          check=lambda i: i["name"] == "pyint" and len(i["secret_key"]) == 40)
    key = i["integration_key"]
    a("update_integration", key, name="pyint2", notes="m", reset_secret_key=True,
      check=lambda got: got["name"] == "pyint2" and got["secret_key"] != i["secret_key"])
    a("get_integration", key, check=lambda got: got["name"] == "pyint2")
    lists(a, "get_integrations", has("integration_key", key))
    a("delete_integration", key)


def administrators(a):
    m = a("add_admin", "Py Admin", "pyadmin@example.org", "+15551230077", "Correct-horse-7-battery", role="Help Desk",
          check=lambda m: m["email"] == "pyadmin@example.org")
    aid = m["admin_id"]
    a("update_admin", aid, name="Py Other", phone="+15551230076", check=lambda m: m["name"] == "Py Other")
    a("get_admin", aid, check=lambda m: m["admin_id"] == aid)
    lists(a, "get_admins", has("admin_id", aid))
    a("reset_admin", aid)
    a("activate_admin", "pynew@example.org", send_email=False, valid_days=3, admin_role="Read-only", check=lambda r: r["email"] == "pynew@example.org")
    a("set_allowed_admin_auth_methods", push_enabled=True, sms_enabled=False, check=lambda m: m["push_enabled"] is True and m["sms_enabled"] is False)
    a("get_allowed_admin_auth_methods", check=lambda m: m["push_enabled"] is True)
    a("update_admin_password_mgmt_status", aid, has_external_password_mgmt=True, check=lambda m: m["has_external_password_mgmt"] is True)
    a("get_external_password_mgmt_status_for_admin", aid, check=lambda m: m["has_external_password_mgmt"] is True)
    a("get_external_password_mgmt_statuses", check=has("admin_id", aid))
    a("delete_admin", aid)
    a("get_administrative_units", absent=True)
    a("get_administrative_units_iterator", absent=True)


def the_rest(a):
    # The library takes numbers here and fails on them: it signs texts.
    now = int(time.time())
    secs = {"mintime": str(now - 3600), "maxtime": str(now + 60)}
    millis = {"mintime": str((now - 3600) * 1000), "maxtime": str((now + 60) * 1000)}
    a("get_settings", check=lambda s: isinstance(s["lockout_threshold"], int))
    a("update_settings", lockout_threshold=9, sms_batch=2, helpdesk_message="call 1", minimum_password_length=12,
      check=lambda s: s["lockout_threshold"] == 9 and s["sms_batch"] == 2)
    a("update_logo", PNG)
    a("get_logo", check=lambda b: b.startswith(PNG[:8]))
    a("delete_logo")
    a("get_info_summary", check=lambda s: s["user_count"] > 0)
    a("get_info_telephony_credits_used", **secs, check=lambda r: isinstance(r["telephony_credits_used"], int))
    for name in ("get_authentication_attempts", "get_user_authentication_attempts"):
        a(name, **secs, check=nonempty)
    a("get_administrator_log", mintime=now - 3600, check=has("action", "user_create"))
    a("get_offline_log", mintime=now - 3600, check=lambda got: got == [])
    a("get_telephony_log", mintime=now - 3600, check=has("type", "sms"))
    a("get_authentication_log", check=nonempty)
    a("get_authentication_log", api_version=2, **millis,
      check=lambda r: len(r["authlogs"]) > 0)
    a("get_activity_logs", **millis, check=lambda r: len(r["items"]) > 0)
    lists(a, "get_endpoints", lambda got: got == [])
    a("get_endpoint", "EPNONE", missing=True)
    a("get_trust_monitor_events_by_offset", millis["mintime"], millis["maxtime"], absent=True)
    a("get_trust_monitor_events_iterator", millis["mintime"], millis["maxtime"], absent=True)


def authentication(auth, admin):
    auth("ping", check=lambda r: isinstance(r["time"], int))
    auth("check", check=lambda r: isinstance(r["time"], int))
    auth("logo", missing=True)
    e = auth("enroll", username="pyauth", valid_secs=60, bypass_codes=1, check=lambda e: e["username"] == "pyauth" and len(e["bypass_codes"]) == 1)
    auth("enroll_status", e["user_id"], e["activation_code"], check=lambda s: s == "waiting")
    auth("preauth", username="pyauth", ipaddr="192.0.2.7", check=lambda r: r["result"] == "auth")
    auth("auth", "passcode", username="pyauth", ipaddr="192.0.2.7", passcode=str(e["bypass_codes"][0]), check=lambda r: r["result"] == "allow")
    admin("update_user", e["user_id"], status="bypass")
    tx = auth("auth", "push", user_id=e["user_id"], device="auto", async_txn=True, type="t", display_username="d", pushinfo="a=b",
              check=lambda r: nonempty(r["txid"]))
    auth("auth_status", tx["txid"], check=lambda r: r["success"] is True and r["status"] == "bypass")


def client(kind, session):
    keys = session[kind.__name__.lower()]
    return Api(kind.__name__, kind(keys["ikey"], keys["skey"], session["host"], port=session["port"], ca_certs=session["ca"], timeout=60))


def main():
    session = json.load(sys.stdin)
    admin, auth = client(duo_client.Admin, session), client(duo_client.Auth, session)

    def part(name, f, *args):
        try:
            return f(*args)
        except Exception as e:  # what one part got wrong must not hide the others
            problems.append("%s: %s: %s" % (name, type(e).__name__, e))

    part("authentication", authentication, auth, admin)
    uid = part("people", people, admin)
    part("groups", groups, admin, uid)
    part("integrations", integrations, admin)
    part("administrators", administrators, admin)
    part("the rest", the_rest, admin)
    admin("delete_user", uid)
    admin.all_called()
    auth.all_called()
    json.dump({"problems": problems, "calls": calls, "left_out": left_out}, sys.stdout)


main()
