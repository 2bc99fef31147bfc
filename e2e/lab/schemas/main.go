// Prints how MeshConfig of the linked istio.io/api differs from an exported schema, as JSON: the type of each field and the
// number of each enum value that differ, and null for those that it lacks. Argument: the exported schema.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"

	"google.golang.org/protobuf/reflect/protoreflect"

	mesh "istio.io/api/mesh/v1alpha1"
)

// types are those of e2e/lab/istio/export-schema.
type types struct {
	Messages map[string]map[string]string `json:"messages"`
	Enums    map[string]map[string]int32  `json:"enums"`
}

// differences of the linked module.
type differences struct {
	Source   map[string]string             `json:"source"`
	Messages map[string]map[string]*string `json:"messages"`
	Enums    map[string]map[string]*int32  `json:"enums"`
}

func main() {
	var exported types
	text, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = json.Unmarshal(text, &exported)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "differences:", err)
		os.Exit(1)
	}
	found := types{Messages: map[string]map[string]string{}, Enums: map[string]map[string]int32{}}
	found.add((&mesh.MeshConfig{}).ProtoReflect().Descriptor())
	out := differences{Source: map[string]string{}, Messages: compare(exported.Messages, found.Messages), Enums: compare(exported.Enums, found.Enums)}
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == "istio.io/api" {
			out.Source[dependency.Path] = dependency.Version
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent(" ", " ")
	_ = encoder.Encode(out)
}

// compare skips types that are not reachable in the linked module: no field has them.
func compare[T comparable](exported, found map[string]map[string]T) map[string]map[string]*T {
	changed := map[string]map[string]*T{}
	for name, members := range found {
		changes := map[string]*T{}
		for member, value := range members {
			if known, ok := exported[name][member]; !ok || known != value {
				changes[member] = &value
			}
		}
		for member := range exported[name] {
			if _, ok := members[member]; !ok {
				changes[member] = nil
			}
		}
		if len(changes) > 0 {
			changed[name] = changes
		}
	}
	return changed
}

func (t *types) add(message protoreflect.MessageDescriptor) {
	name := string(message.FullName())
	if _, known := t.Messages[name]; known || message.ParentFile().Package() == "google.protobuf" {
		return
	}
	fields := map[string]string{}
	t.Messages[name] = fields
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		fields[field.JSONName()] = t.kind(field)
		if name := string(field.Name()); name != field.JSONName() {
			fields[name] = "=" + field.JSONName()
		}
	}
}

func (t *types) kind(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		return "{}" + t.single(field.MapValue())
	case field.IsList():
		return "[]" + t.single(field)
	default:
		return t.single(field)
	}
}

func (t *types) single(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		t.add(field.Message())
		return string(field.Message().FullName())
	case protoreflect.EnumKind:
		values := map[string]int32{}
		for i := range field.Enum().Values().Len() {
			value := field.Enum().Values().Get(i)
			values[string(value.Name())] = int32(value.Number())
		}
		t.Enums[string(field.Enum().FullName())] = values
		return string(field.Enum().FullName())
	default:
		return field.Kind().String()
	}
}
