"""An enrolment on a store of its own, and hosts that ask as agents do."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from telemetryx.clock import ManualClock
from telemetryx.enrolment import request
from telemetryx.enrolment.authority import Authority
from telemetryx.enrolment.service import Answer, Enrolment, Policy
from telemetryx.store.audit import Actor, AuditQuery
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import audit

NOW = 1_800_000_000_000_000_000
DAY = 86_400 * 10**9
OPERATOR = Actor("ana", "api", "192.0.2.9")


@dataclass
class Host:
    """A host with its key."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def csr(self, name: str | None = None) -> str:
        """Write a request for a certificate."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or self.name)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.key, hashes.SHA256())
        return csr.public_bytes(serialization.Encoding.PEM).decode()

    def signs(self, challenge: str, name: str | None = None) -> str:
        """Sign a challenge."""
        text = request.signed(name or self.name, challenge)
        return base64.b64encode(self.key.sign(text, ec.ECDSA(hashes.SHA256()))).decode()


@dataclass
class Site:
    """An enrolment and its clock."""

    enrolment: Enrolment
    clock: ManualClock
    store: SqliteStore

    async def token(self, *, uses: int = 1, agent: str = "", replace: bool = False) -> str:
        """Make a token."""
        text, _ = await self.enrolment.new_token(
            OPERATOR, site="plant1", agent=agent, replace=replace, uses=uses, lifetime_ns=DAY
        )
        return text

    async def join(
        self, host: Host, text: str | None = None, *, csr: str | None = None, replace: bool = False
    ) -> Answer:
        """Have a host join, with a token of its own where none is given."""
        token = await self.token() if text is None else text
        return await self.enrolment.join(
            token, host.name, csr or host.csr(), replace=replace, peer="192.0.2.1"
        )

    async def renew(self, host: Host, challenge: str | None = None) -> Answer:
        """Have a host renew."""
        given = self.enrolment.challenge() if challenge is None else challenge
        return await self.enrolment.renew(host.name, given, host.signs(given), "192.0.2.1")

    async def audited(self) -> list[str]:
        """Return the actions in the audit log, oldest first."""
        entries = await self.store.read(lambda db: audit.query(db, AuditQuery()))
        return [entry.action for entry in reversed(entries)]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock = ManualClock(NOW)
    store = await SqliteStore.open(tmp_path / "t.db", clock=clock)
    authority = Authority.open(tmp_path / "ca", NOW)
    yield Site(Enrolment(store, authority, clock, Policy(90 * DAY)), clock, store)
    await store.close()
