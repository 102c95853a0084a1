"""An HTTPS server before a plain HTTP one: see the script `front`, which starts it."""

import base64
import hashlib
import http.client
import http.server
import json
import os
import ssl
import sys
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import trustme

folder, port, target = sys.argv[1], int(sys.argv[2]), urllib.parse.urlsplit(sys.argv[3])
basic = os.environ.get("FRONT_BASIC")
sigv4 = os.environ.get("FRONT_SIGV4")


def basic_is_good(said):
    return said == "Basic " + base64.b64encode(basic.encode()).decode()


def signature_is_good(request, body, said):
    """Signs the request once more, by AWS's own library, and compares."""
    key, secret, region, service = sigv4.split()
    parts = dict(part.strip().split("=", 1) for part in said.removeprefix("AWS4-HMAC-SHA256 ").split(","))
    time = request.headers["X-Amz-Date"]
    again = botocore.auth.SigV4Auth(botocore.credentials.Credentials(key, secret), service, region)
    names = parts["SignedHeaders"].split(";")
    assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names), names
    path, _, query = request.path.partition("?")
    signed = botocore.awsrequest.AWSRequest(
        method=request.command,
        url=f"https://{request.headers['Host']}{path}",
        # Decoded, so that they are encoded as AWS does it: a comma or an asterisk goes as it is, and is signed encoded.
        params=urllib.parse.parse_qsl(query, keep_blank_values=True),
        data=body,
        headers={name: request.headers[name] for name in names},
    )
    signed.context["timestamp"] = time
    expect = again.signature(again.string_to_sign(signed, again.canonical_request(signed)), signed)
    scope = f"{key}/{time[:8]}/{region}/{service}/aws4_request"
    whole = request.headers["X-Amz-Content-SHA256"] == hashlib.sha256(body).hexdigest()
    return (parts["Credential"], parts["Signature"], whole) == (scope, expect, True)


class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = self.headers.get("Authorization", "")
        try:
            good = basic_is_good(said) if basic else signature_is_good(self, body, said)
        except Exception as e:
            print(repr(e), said, file=sys.stderr)
            good = False
        if not good:
            answer = json.dumps({"error": {"type": "security_exception", "reason": "not signed as it should be"}}).encode()
            return self.reply(401 if basic else 403, answer)
        behind = http.client.HTTPConnection(target.netloc, timeout=120)
        kind = {"Content-Type": self.headers["Content-Type"]} if self.headers["Content-Type"] else {}
        behind.request(self.command, self.path, body, kind)
        answer = behind.getresponse()
        self.reply(answer.status, answer.read())

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = pass_on

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


authority = trustme.CA()
authority.cert_pem.write_to_path(folder + "ca.pem")
certificate = authority.issue_cert("localhost")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
certificate.configure_cert(context)
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Front)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
