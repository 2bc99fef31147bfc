// Judges MeshInstallations as Flux and Argo CD do: by the library that Flux uses, and by our script in the interpreter
// that Argo CD uses. Or checks that Flux's own types know every field of a manifest.
//
//	gitops-judge health health.lua <states >verdicts    a state a line: {"situation": ..., "object": ...}
//	gitops-judge flux manifest.yaml
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	lua "github.com/yuin/gopher-lua"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

type state struct {
	Situation string                     `json:"situation"`
	Object    *unstructured.Unstructured `json:"object"`
}

type verdict struct {
	Situation   string `json:"situation"`
	Flux        string `json:"flux"`
	FluxMessage string `json:"fluxMessage"`
	Argo        string `json:"argo"`
	ArgoMessage string `json:"argoMessage"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gitops-judge:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "health":
		return health(args[1])
	case len(args) == 2 && args[0] == "flux":
		return knownToFlux(args[1])
	}
	return errors.New("usage: gitops-judge health SCRIPT <STATES, or: gitops-judge flux MANIFEST")
}

func health(path string) error {
	script, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	states, verdicts := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var seen state
		if err := states.Decode(&seen); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		flux, err := status.Compute(seen.Object)
		if err != nil {
			return fmt.Errorf("%s: kstatus: %w", seen.Situation, err)
		}
		argo, message, err := argoHealth(string(script), seen.Object)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", seen.Situation, path, err)
		}
		said := verdict{seen.Situation, flux.Status.String(), flux.Message, argo, message}
		if err := verdicts.Encode(said); err != nil {
			return err
		}
	}
}

// What Argo CD makes of an object: one that is being deleted is Progressing, and no script is asked. A script has these
// libraries and no others, the object as a global, and a second.
func argoHealth(script string, object *unstructured.Unstructured) (string, string, error) {
	if object.GetDeletionTimestamp() != nil {
		return "Progressing", "Pending deletion", nil
	}
	machine := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer machine.Close()
	deadline, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	machine.SetContext(deadline)
	libraries := []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}}
	for _, library := range libraries {
		machine.Push(machine.NewFunction(library.open))
		machine.Push(lua.LString(library.name))
		if err := machine.PCall(1, 0, nil); err != nil {
			return "", "", err
		}
	}
	machine.SetGlobal("obj", value(machine, object.Object))
	if err := machine.DoString(script); err != nil {
		return "", "", err
	}
	answer, ok := machine.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", errors.New("the script doesn't return a table")
	}
	given := lua.LVAsString(answer.RawGetString("status"))
	switch given {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
	default:
		return "", "", fmt.Errorf("%q is no health of Argo CD", given)
	}
	return given, lua.LVAsString(answer.RawGetString("message")), nil
}

// A value of an object as the interpreter has it.
func value(machine *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case map[string]any:
		table := machine.NewTable()
		for key, field := range of {
			table.RawSetString(key, value(machine, field))
		}
		return table
	case []any:
		table := machine.NewTable()
		for _, item := range of {
			table.Append(value(machine, item))
		}
		return table
	case string:
		return lua.LString(of)
	case bool:
		return lua.LBool(of)
	case int64:
		return lua.LNumber(of)
	case float64:
		return lua.LNumber(of)
	}
	return lua.LNil
}

// Reads every document of a manifest into Flux's type for its kind, refusing fields that the type lacks.
func knownToFlux(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	reader := documents.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var of metav1.TypeMeta
		if err := yaml.Unmarshal(document, &of); err != nil {
			return err
		}
		var known any
		switch of.APIVersion + " " + of.Kind {
		case " ":
			continue
		case "kustomize.toolkit.fluxcd.io/v1 Kustomization":
			known = &kustomizev1.Kustomization{}
		case "source.toolkit.fluxcd.io/v1 GitRepository":
			known = &sourcev1.GitRepository{}
		default:
			return fmt.Errorf("%s: not a kind of Flux: %s %s", path, of.APIVersion, of.Kind)
		}
		if err := yaml.UnmarshalStrict(document, known); err != nil {
			return fmt.Errorf("%s: %s: %w", path, of.Kind, err)
		}
	}
}
