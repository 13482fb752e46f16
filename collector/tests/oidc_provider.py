"""A small OpenID provider: real endpoints, real keys, and a handle for each lie that a real one, or somebody in its place, could tell."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import unquote_plus, urlencode

from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

CLIENT, SECRET = "telemetryx", "the client's secret: +/%"
Claims = dict[str, Any]


def b64(raw: bytes) -> str:
    """Write bytes as JOSE does."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int) -> str:
    """Write a number as JOSE does."""
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Key:
    """A signing key, RSA (RS256) or elliptic (ES256)."""

    def __init__(self, algorithm: str, kid: str | None, bits: int = 2048) -> None:
        """Make it."""
        self.algorithm, self.kid = algorithm, kid
        self.rsa = rsa.generate_private_key(65537, bits) if algorithm == "RS256" else None
        self.ec = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else None

    def public(self) -> dict[str, Any]:
        """Write it as a JWK."""
        named = {"use": "sig", "alg": self.algorithm} | ({"kid": self.kid} if self.kid is not None else {})
        if self.rsa is not None:
            public = self.rsa.public_key().public_numbers()
            return {"kty": "RSA", "n": number(public.n), "e": number(public.e), **named}
        assert self.ec is not None
        point = self.ec.public_key().public_numbers()
        pair = {"x": b64(point.x.to_bytes(32, "big")), "y": b64(point.y.to_bytes(32, "big"))}
        return {"kty": "EC", "crv": "P-256", **pair, **named}

    def pem(self) -> bytes:
        """Write the public key as PEM: what a careless library takes for an HMAC secret."""
        held = self.rsa or self.ec
        assert held is not None
        return held.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, claims: Claims, **header: Any) -> str:
        """Make a token. A header may lie about the algorithm; `none` and HS256 are then done as they say."""
        head = {"alg": self.algorithm, "typ": "JWT"} | ({"kid": self.kid} if self.kid is not None else {})
        head |= header
        text = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{text}.{b64(self._signature(text.encode(), head['alg']))}"

    def _signature(self, text: bytes, algorithm: str) -> bytes:
        if algorithm == "none":
            return b""
        if algorithm == "HS256":
            return hmac.new(self.pem(), text, "sha256").digest()
        if self.rsa is not None:
            return self.rsa.sign(text, padding.PKCS1v15(), hashes.SHA256())
        assert self.ec is not None
        r, s = decode_dss_signature(self.ec.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Provider:
    """The provider. `person` is who is logged in there; without one it asks on a page."""

    def __init__(self, algorithm: str = "RS256") -> None:
        """Begin with one key and nobody."""
        self.key = Key(algorithm, "first")
        self.published = [self.key]
        self.person: Claims | None = None
        self.userinfo: Claims | None = None
        self.issuer = ""
        self.secret: str | None = SECRET
        self.lie: Callable[[Claims], Claims] = lambda claims: claims
        self.forge: Callable[[Claims], str] | None = None
        self.told: dict[str, Any] = {}
        """What the discovery says otherwise."""
        self.asked: list[str] = []
        self.broken = False
        self.knows_clients = True
        self._codes: dict[str, dict[str, str]] = {}
        self._people: dict[str, Claims] = {}

    def app(self) -> web.Application:
        """Its pages."""
        app = web.Application(middlewares=[self._count])
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_get("/userinfo", self._userinfo)
        app.router.add_get("/leave", self._leave)
        return app

    def called(self, url: str) -> Self:
        """Learn its own address."""
        self.issuer = url.rstrip("/")
        return self

    def rotate(self, algorithm: str = "RS256", kid: str | None = "second") -> None:
        """Sign with another key from now on, and publish that one alone."""
        self.key = Key(algorithm, kid)
        self.published = [self.key]

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.broken:
            return web.Response(status=503, text="out of order")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _discovery(self, _request: web.Request) -> web.Response:
        said = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/leave",
        }
        return web.json_response(said | self.told)

    async def _keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [key.public() for key in self.published]})

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        name = asked.pop("who", None)
        if self.person is None and name is None:
            hidden = "".join(
                f'<input type=hidden name="{key}" value="{value}">' for key, value in asked.items()
            )
            page = f"<!doctype html><html lang=en><title>Login</title><h1>The provider</h1><form>{hidden}<label>Who <input name=who></label><button>Enter</button></form>"
            return web.Response(text=page, content_type="text/html")
        person = self.person or {"sub": f"id of {name}", "preferred_username": name, "groups": ["field"]}
        code = secrets.token_urlsafe(12)
        self._codes[code], self._people[code] = asked, person
        answer = {"code": code, "state": asked["state"]}
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        pair = base64.b64decode(given).decode().split(":") if given else ["", ""]
        client, secret = (unquote_plus(one) for one in pair)
        if not self.knows_clients or (self.secret is not None and (client, secret) != (CLIENT, self.secret)):
            return web.json_response({"error": "invalid_client"}, status=401)
        code = str(form["code"])
        asked, person = self._codes.pop(code, None), self._people.get(code)
        if asked is None or person is None or asked["redirect_uri"] != form["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        challenge = b64(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        if challenge != asked["code_challenge"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = self.claims(asked["nonce"], person)
        token = self.forge(claims) if self.forge is not None else self.key.sign(self.lie(claims))
        return web.json_response(
            {"access_token": f"access {code}", "token_type": "Bearer", "id_token": token}
        )

    def claims(self, nonce: str, person: Claims) -> Claims:
        """What an honest token says."""
        now = int(time.time())
        return {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce, **person}

    async def _userinfo(self, request: web.Request) -> web.Response:
        if self.userinfo is None or not request.headers["Authorization"].startswith("Bearer access "):
            return web.json_response({}, status=401)
        return web.json_response(self.userinfo)

    async def _leave(self, request: web.Request) -> web.Response:
        self.person = None
        raise web.HTTPFound(request.query["post_logout_redirect_uri"])
