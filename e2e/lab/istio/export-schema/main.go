// Export-schema prints the types of what istiod decodes, as JSON: MeshConfig, the injector's Values and its Config. They are
// read from the descriptors of the protocol buffers and from the types in Istio's own modules. `make generate` writes them to bundled-manifests/schemas.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	mesh "istio.io/api/mesh/v1alpha1"
	values "istio.io/istio/operator/pkg/apis"
	"istio.io/istio/pkg/kube/inject"
)

// schema is the document that is printed. A field's type is a scalar, or the name of a message or enum; [] before it is a
// list, {} a map with string keys. =name stands for the field of that name.
type schema struct {
	Source   map[string]string            `json:"source"`
	Roots    map[string]string            `json:"roots"`
	Messages map[string]map[string]string `json:"messages"`
	Enums    map[string]map[string]int32  `json:"enums"`
}

func main() {
	out := schema{
		Source:   sources("istio.io/api", "istio.io/istio"),
		Roots:    map[string]string{},
		Messages: map[string]map[string]string{},
		Enums:    map[string]map[string]int32{},
	}
	for root, message := range map[string]proto.Message{"mesh": &mesh.MeshConfig{}, "values": &values.Values{}} {
		descriptor := message.ProtoReflect().Descriptor()
		out.Roots[root] = string(descriptor.FullName())
		out.add(descriptor)
	}
	out.Roots["config"] = out.addStruct(reflect.TypeFor[inject.Config]())
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, "export-schema:", err)
		os.Exit(1)
	}
}

func sources(modules ...string) map[string]string {
	found := map[string]string{}
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		for _, module := range modules {
			if dependency.Path == module {
				found[module] = dependency.Version
			}
		}
	}
	return found
}

func (s *schema) add(message protoreflect.MessageDescriptor) {
	name := string(message.FullName())
	if _, known := s.Messages[name]; known || message.ParentFile().Package() == "google.protobuf" {
		return
	}
	fields := map[string]string{}
	s.Messages[name] = fields
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		fields[field.JSONName()] = s.kind(field)
		// Both spellings are accepted; the JSON name precedes the other.
		if name := string(field.Name()); name != field.JSONName() {
			fields[name] = "=" + field.JSONName()
		}
	}
}

func (s *schema) kind(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		if field.MapKey().Kind() != protoreflect.StringKind {
			panic(fmt.Sprintf("%s: a map with keys that are no strings", field.FullName()))
		}
		return "{}" + s.single(field.MapValue())
	case field.IsList():
		return "[]" + s.single(field)
	default:
		return s.single(field)
	}
}

func (s *schema) single(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		s.add(field.Message())
		return string(field.Message().FullName())
	case protoreflect.EnumKind:
		s.enum(field.Enum())
		return string(field.Enum().FullName())
	default:
		return field.Kind().String()
	}
}

func (s *schema) enum(enum protoreflect.EnumDescriptor) {
	values := map[string]int32{}
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		values[string(value.Name())] = int32(value.Number())
	}
	s.Enums[string(enum.FullName())] = values
}

// addStruct adds a Go type that is decoded by encoding/json.
func (s *schema) addStruct(kind reflect.Type) string {
	name := kind.String()
	if _, known := s.Messages[name]; known {
		return name
	}
	fields := map[string]string{}
	s.Messages[name] = fields
	for i := range kind.NumField() {
		key, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
		if key != "" && key != "-" {
			fields[key] = s.goType(kind.Field(i).Type)
		}
	}
	return name
}

func (s *schema) goType(kind reflect.Type) string {
	switch kind.Kind() {
	case reflect.String:
		// sigs.k8s.io/yaml turns numbers and booleans into strings where a string is wanted.
		return "scalar"
	case reflect.Slice:
		return "[]" + s.goType(kind.Elem())
	case reflect.Map:
		return "{}" + s.goType(kind.Elem())
	case reflect.Struct:
		return s.addStruct(kind)
	default:
		panic(fmt.Sprintf("%s: a type that is not expected in the injector's configuration", kind))
	}
}
