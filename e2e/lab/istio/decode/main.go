// Decode reads documents and says of each whether istiod would accept it: the oracle that the operator's own check is compared
// with. Input: one JSON object per line, {"kind": "mesh" | "values" | "config", "document": YAML}. Output: one JSON object per
// line, {"error": ""} where the document is accepted; that of a mesh configuration has "loaded" too, the JSON that injection
// templates print of it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/kube/inject"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/util/protomarshal"
)

type input struct {
	Kind     string `json:"kind"`
	Document string `json:"document"`
}

type output struct {
	Error  string `json:"error"`
	Loaded string `json:"loaded,omitempty"`
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
		loaded, err := decode(in)
		if err != nil {
			answer.Error = err.Error()
		}
		answer.Loaded = loaded
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

func decode(in input) (string, error) {
	var err error
	switch in.Kind {
	case "mesh":
		config, err := mesh.ApplyMeshConfigDefaults(in.Document)
		if err != nil {
			return "", err
		}
		// A duration may be out of the range that can be printed; a template then prints an empty object.
		loaded, _ := protomarshal.ToJSON(config)
		return loaded, nil
	case "values":
		_, err = inject.NewValuesConfig(in.Document)
	case "config":
		_, err = inject.UnmarshalConfig([]byte(in.Document))
	default:
		err = fmt.Errorf("unknown kind %q", in.Kind)
	}
	return "", err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "decode:", err)
	os.Exit(1)
}
