"""A client that shares nothing with Refract but proto/: stubs made here, a streamed recommendation, a rich error.

    python tests/foreign/python_client.py HOST:PORT USER

Prints one JSON object: what it saw. Exits non-zero with a sentence when the contract does not hold.
"""

import importlib
import json
import pathlib
import sys
import tempfile

import grpc
from grpc_status import rpc_status
from grpc_tools import protoc
from google.rpc import error_details_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2]


def stubs():
    """Generates Python code for proto/refract and imports it."""
    out = tempfile.mkdtemp(prefix="refract-stubs-")
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    files = [str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto" / "refract").rglob("*.proto")]
    code = protoc.main(
        ["protoc", f"-I{ROOT / 'proto'}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    )
    if code != 0:
        sys.exit("protoc refused proto/refract")
    sys.path.insert(0, out)
    return (
        importlib.import_module("refract.recommend.v1.recommend_service_pb2"),
        importlib.import_module("refract.recommend.v1.recommend_service_pb2_grpc"),
        importlib.import_module("refract.type.v1.explanation_pb2"),
    )


def expect(holds, sentence):
    if not holds:
        sys.exit(f"broken contract: {sentence}")


def main():
    target, user = sys.argv[1:3]
    messages, services, types = stubs()
    with grpc.insecure_channel(target) as channel:
        client = services.RecommendServiceStub(channel)
        request = messages.StreamRecommendRequest(
            rank=messages.RankRequest(subject=messages.Subject(user_id=user), limit=3),
        )
        call = client.StreamRecommend(request, timeout=30, metadata=[("x-request-id", "python-1")])
        kinds, texts, explained, summary = [], {}, {}, None
        for event in call:
            kind = event.WhichOneof("event")
            kinds.append(kind)
            if kind == "delta":
                texts[event.delta.position] = texts.get(event.delta.position, "") + event.delta.text
            elif kind == "explained":
                expect(event.explained.position not in explained, "one terminal event per item")
                explained[event.explained.position] = event.explained.explanation
            elif kind == "summary":
                summary = event.summary
            elif kind == "slate":
                slate = event.slate
        expect(kinds[0] == "slate", "the slate comes first")
        expect(kinds.count("slate") == 1 and kinds.count("summary") == 1, "one slate, one summary")
        expect(kinds[-1] == "summary", "the summary comes last")
        expect(sorted(explained) == [i.position for i in slate.items], "every item has its terminal event")
        for position, explanation in explained.items():
            expect(texts.get(position, "") == explanation.text, "the deltas joined are the text")
            expect(explanation.grounding.rung != types.RUNG_UNSPECIFIED, "every explanation says its rung")
        expect(summary.request_id == "python-1", "the request id is echoed")

        nobody = messages.RankRequest(subject=messages.Subject(user_id="nobody-has-this-id"))
        try:
            client.Rank(nobody, timeout=5)
            sys.exit("broken contract: an unknown user is an error")
        except grpc.RpcError as error:
            expect(error.code() == grpc.StatusCode.NOT_FOUND, f"an unknown user is NOT_FOUND, not {error.code()}")
            status = rpc_status.from_call(error)
            reasons = []
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    reasons.append(info.reason)
            expect(reasons, "every error carries ErrorInfo")

        unary = client.Explain(
            messages.ExplainRequest(subject=messages.Subject(user_id=user), items=[slate.items[0].item]), timeout=30
        )
        expect(len(unary.explanations) == 1, "Explain answers for every item")

    rungs = [types.Rung.Name(e.grounding.rung) for _, e in sorted(explained.items())]
    print(json.dumps({"items": len(slate.items), "rungs": rungs, "texts": [e.text for _, e in sorted(explained.items())]}))


if __name__ == "__main__":
    main()
