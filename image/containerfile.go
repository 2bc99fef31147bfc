package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A containerfile is a parsed Containerfile: what to copy, and the image's configuration.
type containerfile struct {
	copies []copyInstruction
	config v1.Config
}

// A copyInstruction has a directory or file of the build context and its path in the image.
type copyInstruction struct{ from, to string }

// parse parses a Containerfile. It supports the instructions that ours uses, each on one line, and rejects others, since
// ignoring them would produce an incomplete image.
func parse(file io.Reader) (containerfile, error) {
	parsed := containerfile{config: v1.Config{Labels: map[string]string{}, ExposedPorts: map[string]struct{}{}}}
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		if err := parsed.apply(name, strings.TrimSpace(rest)); err != nil {
			return containerfile{}, fmt.Errorf("line %d, %s: %w", number, name, err)
		}
	}
	return parsed, lines.Err()
}

func (c *containerfile) apply(name, rest string) error {
	switch name {
	case "FROM":
		if rest != "scratch" {
			return fmt.Errorf("base image %q is not supported, only scratch", rest)
		}
	case "COPY":
		words := strings.Fields(rest)
		if len(words) != 2 || strings.HasPrefix(words[0], "-") {
			return fmt.Errorf("%q must be one source and one destination", rest)
		}
		c.copies = append(c.copies, copyInstruction{from: words[0], to: words[1]})
	case "LABEL":
		key, value, err := keyValue(rest)
		if err != nil {
			return err
		}
		c.config.Labels[key] = value
	case "ENV":
		key, value, err := keyValue(rest)
		if err != nil {
			return err
		}
		c.config.Env = append(c.config.Env, key+"="+value)
	case "USER":
		c.config.User = rest
	case "EXPOSE":
		c.config.ExposedPorts[rest] = struct{}{}
	case "ENTRYPOINT":
		return json.Unmarshal([]byte(rest), &c.config.Entrypoint)
	case "CMD":
		return json.Unmarshal([]byte(rest), &c.config.Cmd)
	default:
		return fmt.Errorf("unsupported instruction")
	}
	return nil
}

// keyValue parses KEY=value or KEY="value".
func keyValue(text string) (string, string, error) {
	key, value, found := strings.Cut(text, "=")
	if !found || key == "" {
		return "", "", fmt.Errorf("%q is not KEY=value", text)
	}
	if strings.HasPrefix(value, `"`) {
		if err := json.Unmarshal([]byte(value), &value); err != nil {
			return "", "", fmt.Errorf("%q is not KEY=\"value\"", text)
		}
	} else if strings.ContainsAny(value, " $\\") {
		return "", "", fmt.Errorf("%q must be quoted, or has an unsupported variable", text)
	}
	return key, value, nil
}
