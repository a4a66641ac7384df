// A client that shares nothing with Refract but proto/: a streamed recommendation, a deadline, a rich error.
//
//	go run . HOST:PORT USER
//
// Prints one JSON object: what it saw. Exits non-zero with a sentence when the contract does not hold.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	recommend "refract.example/gen/refract/recommend/v1"
)

func expect(holds bool, sentence string, more ...any) {
	if !holds {
		fmt.Fprintln(os.Stderr, append([]any{"broken contract:", sentence}, more...)...)
		os.Exit(1)
	}
}

func subject(user string) *recommend.Subject {
	return &recommend.Subject{Kind: &recommend.Subject_UserId{UserId: user}}
}

func main() {
	target, user := os.Args[1], os.Args[2]
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	expect(err == nil, "a target is a target", err)
	defer connection.Close()
	client := recommend.NewRecommendServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	rank := &recommend.RankRequest{Subject: subject(user), Limit: 3}
	stream, err := client.StreamRecommend(ctx, &recommend.StreamRecommendRequest{Rank: rank})
	expect(err == nil, "a stream begins", err)
	slate, explained, summaries := 0, map[uint32]string{}, 0
	texts := map[uint32]string{}
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			break
		}
		expect(err == nil, "a stream ends in order", err)
		if found := message.GetSlate(); found != nil {
			expect(slate == 0 && len(texts) == 0, "the slate comes once and first")
			slate = len(found.Items)
		}
		if delta := message.GetDelta(); delta != nil {
			texts[delta.Position] += delta.Text
		}
		if end := message.GetExplained(); end != nil {
			expect(texts[end.Position] == end.Explanation.Text, "the deltas joined are the text")
			explained[end.Position] = end.Explanation.Text
		}
		if message.GetSummary() != nil {
			summaries++
		}
	}
	expect(slate == 3 && len(explained) == 3 && summaries == 1, "every item has its end, and the stream its summary")

	_, err = client.Rank(ctx, &recommend.RankRequest{Subject: subject("nobody-has-this-id")})
	expect(status.Code(err) == codes.NotFound, "an unknown user is NOT_FOUND", err)
	reason := ""
	for _, detail := range status.Convert(err).Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			reason = info.Reason
		}
	}
	expect(reason != "", "every error carries ErrorInfo")

	brief, stop := context.WithTimeout(context.Background(), time.Nanosecond)
	defer stop()
	_, err = client.Recommend(brief, &recommend.RecommendRequest{Rank: rank})
	expect(status.Code(err) == codes.DeadlineExceeded, "a deadline is kept", err)

	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"items": slate, "reason": reason})
}
