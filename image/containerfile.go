package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A recipe is what a Containerfile from scratch says: what is copied where, and how it is run.
type recipe struct {
	copies []copied
	config v1.Config
}

// A folder or file of the build's context, and its place in the image.
type copied struct{ from, to string }

// parse reads a Containerfile. It knows the instructions that ours has, each on a line of its own, and refuses the rest:
// an image that silently lacks something would be worse than none.
func parse(file io.Reader) (recipe, error) {
	found := recipe{config: v1.Config{Labels: map[string]string{}, ExposedPorts: map[string]struct{}{}}}
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		if err := found.instruction(name, strings.TrimSpace(rest)); err != nil {
			return recipe{}, fmt.Errorf("line %d, %s: %w", number, name, err)
		}
	}
	return found, lines.Err()
}

func (r *recipe) instruction(name, rest string) error {
	switch name {
	case "FROM":
		if rest != "scratch" {
			return fmt.Errorf("the base is %q, not scratch", rest)
		}
	case "COPY":
		words := strings.Fields(rest)
		if len(words) != 2 || strings.HasPrefix(words[0], "-") {
			return fmt.Errorf("%q is not one source and one place", rest)
		}
		r.copies = append(r.copies, copied{from: words[0], to: words[1]})
	case "LABEL":
		key, value, err := pair(rest)
		if err != nil {
			return err
		}
		r.config.Labels[key] = value
	case "ENV":
		key, value, err := pair(rest)
		if err != nil {
			return err
		}
		r.config.Env = append(r.config.Env, key+"="+value)
	case "USER":
		r.config.User = rest
	case "EXPOSE":
		r.config.ExposedPorts[rest] = struct{}{}
	case "ENTRYPOINT":
		return json.Unmarshal([]byte(rest), &r.config.Entrypoint)
	case "CMD":
		return json.Unmarshal([]byte(rest), &r.config.Cmd)
	default:
		return fmt.Errorf("unknown instruction")
	}
	return nil
}

// pair reads KEY=value or KEY="value".
func pair(text string) (string, string, error) {
	key, value, found := strings.Cut(text, "=")
	if !found || key == "" {
		return "", "", fmt.Errorf("%q is not KEY=value", text)
	}
	if strings.HasPrefix(value, `"`) {
		if err := json.Unmarshal([]byte(value), &value); err != nil {
			return "", "", fmt.Errorf("%q is not KEY=\"value\"", text)
		}
	} else if strings.ContainsAny(value, " $\\") {
		return "", "", fmt.Errorf("%q needs quotes, or has a variable", text)
	}
	return key, value, nil
}
