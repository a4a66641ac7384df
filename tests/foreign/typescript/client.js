// A client that shares nothing with Refract but proto/: a streamed recommendation, a deadline, a rich error.
//
//   node client.js HOST:PORT USER
//
// Prints one JSON object: what it saw. Exits non-zero with a sentence when the contract does not hold.

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { RecommendService } from "./gen/refract/recommend/v1/recommend_service_pb.js";

function expect(holds, sentence) {
  if (!holds) {
    console.error(`broken contract: ${sentence}`);
    process.exit(1);
  }
}

const [target, user] = process.argv.slice(2);
const client = createClient(RecommendService, createGrpcTransport({ baseUrl: `http://${target}` }));
const rank = (id) => ({ subject: { kind: { case: "userId", value: id } }, limit: 3 });

const kinds = [];
const texts = new Map();
let items = 0;
for await (const { event } of client.streamRecommend({ rank: rank(user) }, { timeoutMs: 30_000 })) {
  kinds.push(event.case);
  if (event.case === "slate") items = event.value.items.length;
  if (event.case === "delta") texts.set(event.value.position, (texts.get(event.value.position) ?? "") + event.value.text);
  if (event.case === "explained") {
    expect((texts.get(event.value.position) ?? "") === event.value.explanation.text, "the deltas joined are the text");
  }
}
expect(kinds[0] === "slate" && kinds.at(-1) === "summary", "the slate comes first, the summary last");
expect(kinds.filter((kind) => kind === "explained").length === items, "every item has its end");

let reason;
try {
  await client.rank(rank("nobody-has-this-id"), { timeoutMs: 5_000 });
  expect(false, "an unknown user is an error");
} catch (caught) {
  const error = ConnectError.from(caught);
  expect(error.code === Code.NotFound, `an unknown user is NOT_FOUND, not ${Code[error.code]}`);
  [{ reason }] = error.findDetails(ErrorInfoSchema);
}
expect(reason, "every error carries ErrorInfo");

try {
  await client.recommend({ rank: rank(user) }, { timeoutMs: 1 });
  expect(false, "a deadline is kept");
} catch (caught) {
  expect(ConnectError.from(caught).code === Code.DeadlineExceeded, "a deadline is kept");
}
console.log(JSON.stringify({ items, reason }));
process.exit(0);
