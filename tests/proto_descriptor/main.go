// Prints the file descriptor of the CSI specification's own Go module, as the FileDescriptorProto's wire format, to
// stdout. tests/proto_descriptor.rs compares it with proto/csi.proto.
package main

import (
	"log"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
)

func main() {
	// Every message leads to the file that it was declared in.
	file := (&csi.CreateVolumeRequest{}).ProtoReflect().Descriptor().ParentFile()
	descriptor := protodesc.ToFileDescriptorProto(file)
	descriptor.SourceCodeInfo = nil
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(descriptor)
	if err != nil {
		log.Fatalf("marshal the descriptor of %s: %v", file.Path(), err)
	}
	if _, err := os.Stdout.Write(wire); err != nil {
		log.Fatalf("write the descriptor of %s: %v", file.Path(), err)
	}
}
