"""The bill of materials of a program or of an image's files, as SPDX 2.3 (JSON), out of what is in them: the crates that
cargo-auditable wrote into the program, and the packages whose records root.sh put beside the libraries.

  sbom.py ROOT [NAME]     ROOT is the image's file system, such as `buildah mount` shows it

Scanners (syft, trivy, grype) read the same two places without this script.
"""

import hashlib
import json
import struct
import sys
import zlib
from pathlib import Path

PROGRAM = "usr/bin/refract"
SECTION = b".dep-v0"


def section(elf: bytes) -> bytes:
    """The contents of `.dep-v0` of a 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise SystemExit("the program is no 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + size * i) for i in range(count)]
    text = headers[names][4]
    for name, _, _, _, offset, length in headers:
        if elf.startswith(SECTION + b"\0", text + name):
            return elf[offset : offset + length]
    raise SystemExit("the program holds no list of crates: it was not built by `cargo auditable build`")


def crates(elf: bytes) -> list[tuple[str, str, str]]:
    """Name, version, purl. Those that ran while compiling only are not in the program."""
    found = json.loads(zlib.decompress(section(elf)))["packages"]
    return [
        (p["name"], p["version"], f"pkg:cargo/{p['name']}@{p['version']}")
        for p in found
        if p.get("kind", "runtime") == "runtime"
    ]


def packages(root: Path) -> list[tuple[str, str, str]]:
    """Name, version, purl of the distribution's packages."""
    release = dict(line.split("=", 1) for line in (root / "etc/os-release").read_text().splitlines() if "=" in line)
    distribution = release["ID"].strip('"')
    found = []
    for record in sorted((root / "var/lib/dpkg/status.d").iterdir()):
        fields = dict(line.split(": ", 1) for line in record.read_text().splitlines() if ": " in line and not line.startswith(" "))
        found.append((fields["Package"], fields["Version"], f"pkg:deb/{distribution}/{fields['Package']}@{fields['Version']}?arch={fields['Architecture']}"))
    return found


def document(root: Path, name: str) -> dict:
    elf = (root / PROGRAM).read_bytes()
    digest = hashlib.sha256(elf).hexdigest()
    parts = [("crate", *c) for c in crates(elf)] + [("deb", *p) for p in packages(root)]
    ids = [f"SPDXRef-{kind}-{n}" for n, (kind, *_) in enumerate(parts)]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        # One for each program: equal images have equal bills.
        "documentNamespace": f"urn:refract:sbom:{digest}",
        "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": ["Tool: services/refract/images/sbom.py"]},
        "packages": [
            {
                "SPDXID": id_,
                "name": part,
                "versionInfo": version,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": False,
                "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
            }
            for id_, (_, part, version, purl) in zip(ids, parts)
        ],
        "files": [{"SPDXID": "SPDXRef-program", "fileName": f"./{PROGRAM}", "checksums": [{"algorithm": "SHA256", "checksumValue": digest}]}],
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-program"}]
        + [{"spdxElementId": "SPDXRef-program", "relationshipType": "DEPENDS_ON", "relatedSpdxElement": id_} for id_ in ids],
    }


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print(json.dumps(document(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "refract"), indent=1))
