// Prints the FileDescriptorProto of the specification's own Go module in its wire form:
// what tests/proto_descriptor.rs compares Berth's proto/csi.proto with.
package main

import (
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
)

func main() {
	descriptor := protodesc.ToFileDescriptorProto(csi.File_csi_proto)
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(descriptor)
	if err != nil {
		panic(err)
	}
	if _, err := os.Stdout.Write(wire); err != nil {
		panic(err)
	}
}
