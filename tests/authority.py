"""An authority of a test's own, as Caddy's internal one: a root, and certificates for names and addresses."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DIGITAL_SIGNATURE, CERT_SIGN = 0, 5  # places in x509.KeyUsage


class Authority:
    """`pem` is what its clients trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "LeFleet test root")])
        root = self._sign(self._key, self._issuer, is_root=True)
        self.pem = folder / "ca.crt"
        self.pem.write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str) -> tuple[Path, Path]:
        """(certificate, key) of a server of these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(key, subject, [_name(name) for name in names])
        files = self._folder / "server.crt", self._folder / "server.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        return files

    def _sign(self, key, subject, names=(), is_root: bool = False) -> x509.Certificate:
        """With everything that Python 3.13 wants to see (VERIFY_X509_STRICT)."""
        now, public = datetime.now(UTC), self._key.public_key()
        usage = [place == (CERT_SIGN if is_root else DIGITAL_SIGNATURE) for place in range(9)]
        builder = (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self._issuer, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(*usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
