// Evaluates the health of MeshInstallations like Flux and Argo CD: with Flux's kstatus library, and with a health
// script in Argo CD's Lua interpreter. Also validates manifests against Flux's types.
//
//	gitops-health health health.lua <states >results    one state per line: {"state": ..., "object": ...}
//	gitops-health flux manifest.yaml
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

type input struct {
	State  string                     `json:"state"`
	Object *unstructured.Unstructured `json:"object"`
}

type result struct {
	State       string `json:"state"`
	Flux        string `json:"flux"`
	FluxMessage string `json:"fluxMessage"`
	Argo        string `json:"argo"`
	ArgoMessage string `json:"argoMessage"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gitops-health:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "health":
		return health(args[1])
	case len(args) == 2 && args[0] == "flux":
		return validateFlux(args[1])
	}
	return errors.New("usage: gitops-health health SCRIPT <STATES, or: gitops-health flux MANIFEST")
}

func health(path string) error {
	script, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	states, results := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var in input
		if err := states.Decode(&in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		flux, err := status.Compute(in.Object)
		if err != nil {
			return fmt.Errorf("%s: kstatus: %w", in.State, err)
		}
		argo, message, err := argoHealth(string(script), in.Object)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", in.State, path, err)
		}
		out := result{in.State, flux.Status.String(), flux.Message, argo, message}
		if err := results.Encode(out); err != nil {
			return err
		}
	}
}

// argoHealth returns the health status and message of Argo CD. Objects with a deletion timestamp are Progressing
// without a call of the script. The script has only these libraries, the object as a global, and a time limit of one
// second.
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
	returned, ok := machine.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", errors.New("the script doesn't return a table")
	}
	healthStatus := lua.LVAsString(returned.RawGetString("status"))
	switch healthStatus {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
	default:
		return "", "", fmt.Errorf("%q is not a health status of Argo CD", healthStatus)
	}
	return healthStatus, lua.LVAsString(returned.RawGetString("message")), nil
}

// value converts a value of an object to Lua.
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

// validateFlux decodes every document of a manifest into Flux's type for its kind and rejects unknown fields.
func validateFlux(path string) error {
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
		var typed any
		switch of.APIVersion + " " + of.Kind {
		case " ":
			continue
		case "kustomize.toolkit.fluxcd.io/v1 Kustomization":
			typed = &kustomizev1.Kustomization{}
		case "source.toolkit.fluxcd.io/v1 GitRepository":
			typed = &sourcev1.GitRepository{}
		default:
			return fmt.Errorf("%s: not a Flux kind: %s %s", path, of.APIVersion, of.Kind)
		}
		if err := yaml.UnmarshalStrict(document, typed); err != nil {
			return fmt.Errorf("%s: %s: %w", path, of.Kind, err)
		}
	}
}
