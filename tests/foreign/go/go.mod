module refract.example/client

go 1.25

require (
	google.golang.org/genproto/googleapis/rpc v0.0.0-20251103181224-f26f9409b101
	google.golang.org/grpc v1.76.0
	refract.example/gen v0.0.0
)

require (
	golang.org/x/net v0.42.0 // indirect
	golang.org/x/sys v0.34.0 // indirect
	golang.org/x/text v0.27.0 // indirect
	google.golang.org/protobuf v1.36.10 // indirect
)

// Made from proto/ by `buf generate`; the test puts them there.
replace refract.example/gen => ./gen
