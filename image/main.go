// Builds the operator's image from its Containerfile without a container engine, as an OCI layout and as an archive for
// container engines. Builds are reproducible.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	context := flags.String("context", ".", "directory with the Containerfile and its sources")
	out := flags.String("out", "dist", "output directory for the layout (image/) and the archive (image.tar)")
	tag := flags.String("tag", "", "name of the image in the archive, such as meshwright:0.1.0")
	arch := flags.String("arch", "amd64", "architecture of the binaries, as Go names it")
	labels := map[string]string{}
	flags.Func("label", "additional label KEY=value", func(text string) error {
		key, value, found := strings.Cut(text, "=")
		labels[key] = value
		if !found {
			return errors.New("must be KEY=value")
		}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	reference, err := name.NewTag(*tag)
	if err != nil {
		return err
	}
	at, err := epoch()
	if err != nil {
		return err
	}
	image, err := build(*context, *arch, labels, at)
	if err != nil {
		return err
	}
	return save(image, reference, *out)
}

// epoch returns the timestamp of everything in the image: SOURCE_DATE_EPOCH in seconds, by default 1970-01-01.
func epoch() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q must be a number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// build builds the image, with one layer for each COPY, in order.
func build(context, arch string, labels map[string]string, at time.Time) (v1.Image, error) {
	file, err := os.Open(filepath.Join(context, "Containerfile"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	parsed, err := parse(file)
	if err != nil {
		return nil, fmt.Errorf("Containerfile: %w", err)
	}
	for key, value := range labels {
		parsed.config.Labels[key] = value
	}

	additions := make([]mutate.Addendum, 0, len(parsed.copies))
	for _, item := range parsed.copies {
		layer, err := layer(context, item, at)
		if err != nil {
			return nil, err
		}
		history := v1.History{Created: v1.Time{Time: at}, CreatedBy: "COPY " + item.from + " " + item.to}
		additions = append(additions, mutate.Addendum{Layer: layer, History: history})
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, additions...)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = arch, "linux"
	config.Created = v1.Time{Time: at}
	config.Config = parsed.config
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		return nil, err
	}
	// Registries show annotations without reading the configuration.
	annotated, ok := mutate.Annotations(image, parsed.config.Labels).(v1.Image)
	if !ok {
		return nil, errors.New("can't annotate the manifest")
	}
	return annotated, nil
}

// save replaces the layout and the archive and prints their digest and paths.
func save(image v1.Image, reference name.Tag, out string) error {
	directory, archive := filepath.Join(out, "image"), filepath.Join(out, "image.tar")
	if err := os.RemoveAll(directory); err != nil {
		return err
	}
	index, err := layout.Write(directory, empty.Index)
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	platform := v1.Platform{OS: config.OS, Architecture: config.Architecture}
	if err := index.AppendImage(image, layout.WithPlatform(platform)); err != nil {
		return err
	}
	if err := tarball.WriteToFile(archive, reference, image); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	size := manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	fmt.Printf("%s %s, %d layers, %d bytes compressed: %s and %s\n", reference, digest, len(manifest.Layers), size, directory, archive)
	return nil
}
