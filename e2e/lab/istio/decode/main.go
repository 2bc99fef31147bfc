// Decode reads documents and says of each whether istiod would accept it: the oracle that the operator's own check is compared
// with. Input: one JSON object per line, {"kind": "mesh" | "values" | "config", "document": YAML}. Output: one JSON object per
// line, {"error": ""} where the document is accepted.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/kube/inject"
	"istio.io/istio/pkg/log"
)

type input struct {
	Kind     string `json:"kind"`
	Document string `json:"document"`
}

type output struct {
	Error string `json:"error"`
}

func main() {
	options := log.DefaultOptions()
	options.SetDefaultOutputLevel(log.OverrideScopeName, log.NoneLevel)
	_ = log.Configure(options)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for lines.Scan() {
		var in input
		if err := json.Unmarshal(lines.Bytes(), &in); err != nil {
			fail(err)
		}
		var answer output
		if err := decode(in); err != nil {
			answer.Error = err.Error()
		}
		if err := encoder.Encode(answer); err != nil {
			fail(err)
		}
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
	if err := out.Flush(); err != nil {
		fail(err)
	}
}

func decode(in input) error {
	var err error
	switch in.Kind {
	case "mesh":
		_, err = mesh.ApplyMeshConfigDefaults(in.Document)
	case "values":
		_, err = inject.NewValuesConfig(in.Document)
	case "config":
		_, err = inject.UnmarshalConfig([]byte(in.Document))
	default:
		err = fmt.Errorf("unknown kind %q", in.Kind)
	}
	return err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "decode:", err)
	os.Exit(1)
}
