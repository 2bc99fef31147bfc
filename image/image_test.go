package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// buildContext creates a build context like `make image-root`, with the repository's Containerfile. All files have the
// given modification time.
func buildContext(t *testing.T, at time.Time) string {
	t.Helper()
	directory := t.TempDir()
	containerfile, err := os.ReadFile("../Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Containerfile":                               string(containerfile),
		"dist/root/catalog/1.0.0/release.yaml":        "version: 1.0.0\n",
		"dist/root/catalog/1.0.0/charts/b/Chart.yaml": "name: b\n",
		"dist/root/catalog/1.0.0/charts/a/Chart.yaml": "name: a\n",
		"dist/root/certificates/ca-certificates.crt":  "PEM\n",
		"dist/root/sbom/meshwright.cdx.json":          "{}\n",
		"dist/root/bin/meshwright":                    "program",
	} {
		name = filepath.Join(directory, name)
		mode := os.FileMode(0o640)
		if filepath.Base(name) == "meshwright" {
			mode = 0o700
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func mustBuild(t *testing.T, context string) v1.Image {
	t.Helper()
	image, err := build(context, "amd64", map[string]string{"org.opencontainers.image.version": "0.1.0"}, time.Unix(0, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func digest(t *testing.T, image v1.Image) string {
	t.Helper()
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func TestDigestIsReproducible(t *testing.T) {
	one := mustBuild(t, buildContext(t, time.Unix(1_000_000_000, 0)))
	two := mustBuild(t, buildContext(t, time.Unix(1_700_000_000, 0)))
	if digest(t, one) != digest(t, two) {
		t.Errorf("%s and %s", digest(t, one), digest(t, two))
	}
}

func TestNewBinaryChangesLastLayerOnly(t *testing.T) {
	one := buildContext(t, time.Unix(0, 0))
	two := buildContext(t, time.Unix(0, 0))
	if err := os.WriteFile(filepath.Join(two, "dist/root/bin/meshwright"), []byte("other"), 0o700); err != nil {
		t.Fatal(err)
	}
	first, second := mustBuild(t, one), mustBuild(t, two)
	if digest(t, first) == digest(t, second) {
		t.Error("the digests are equal")
	}
	manifests := [2]*v1.Manifest{}
	for at, image := range []v1.Image{first, second} {
		manifest, err := image.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		manifests[at] = manifest
	}
	for at := range manifests[0].Layers[:3] {
		if manifests[0].Layers[at].Digest != manifests[1].Layers[at].Digest {
			t.Errorf("layer %d changed, although only the last one has the binary", at)
		}
	}
}

func TestConfigRunsOperatorAsNonRoot(t *testing.T) {
	file, err := mustBuild(t, buildContext(t, time.Unix(0, 0))).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := file.Config
	if config.User != "65532:65532" {
		t.Errorf("the user is %q", config.User)
	}
	if !slices.Equal(config.Entrypoint, []string{"/bin/meshwright"}) || !slices.Equal(config.Cmd, []string{"operator"}) {
		t.Errorf("the command is %q %q", config.Entrypoint, config.Cmd)
	}
	if !slices.Contains(config.Env, "MESHWRIGHT_CATALOG=/catalog") {
		t.Errorf("the environment is %q", config.Env)
	}
	if config.Labels["org.opencontainers.image.version"] != "0.1.0" || config.Labels["org.opencontainers.image.title"] == "" {
		t.Errorf("the labels are %q", config.Labels)
	}
	if file.OS != "linux" || file.Architecture != "amd64" {
		t.Errorf("the platform is %s/%s", file.OS, file.Architecture)
	}
}

func TestImageHasBinaryCatalogAndSBOM(t *testing.T) {
	modes := map[string]int64{}
	archive := mutate.Extract(mustBuild(t, buildContext(t, time.Unix(0, 0))))
	defer archive.Close()
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		modes[header.Name] = header.Mode
		if header.Uid != 0 || header.Gid != 0 || header.ModTime.Unix() != 0 {
			t.Errorf("%s has owner %d:%d and time %s", header.Name, header.Uid, header.Gid, header.ModTime)
		}
	}
	for name, mode := range map[string]int64{
		"bin/meshwright":                               0o755,
		"catalog/1.0.0/release.yaml":                   0o644,
		"catalog/1.0.0/charts/a/Chart.yaml":            0o644,
		"etc/ssl/certs/ca-certificates.crt":            0o644,
		"usr/share/doc/meshwright/meshwright.cdx.json": 0o644,
	} {
		if modes[name] != mode {
			t.Errorf("%s has mode %o", name, modes[name])
		}
	}
}

func TestLayoutAndArchiveAreValid(t *testing.T) {
	image, out := mustBuild(t, buildContext(t, time.Unix(0, 0))), t.TempDir()
	tag, err := name.NewTag("meshwright:test")
	if err != nil {
		t.Fatal(err)
	}
	if err := save(image, tag, out); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(filepath.Join(out, "image"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error("layout:", err)
	}
	archived, err := tarball.ImageFromPath(filepath.Join(out, "image.tar"), &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(archived); err != nil {
		t.Error("archive:", err)
	}
	config, err := archived.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	// Each COPY has one layer and one history entry.
	layers, history := len(config.RootFS.DiffIDs), len(config.History)
	if layers != 4 || history != layers {
		t.Errorf("%d layers and %d history entries", layers, history)
	}
	for _, line := range config.History {
		if line.EmptyLayer || !strings.HasPrefix(line.CreatedBy, "COPY ") {
			t.Errorf("unexpected history entry %+v", line)
		}
	}
}

func TestRejectsUnsupportedInstructions(t *testing.T) {
	for text, message := range map[string]string{
		"FROM debian":            `line 1, FROM: base image "debian" is not supported, only scratch`,
		"FROM scratch\nRUN true": "line 2, RUN: unsupported instruction",
		"COPY a b /c":            `line 1, COPY: "a b /c" must be one source and one destination`,
		"ENV PATH=$HOME/bin":     `line 1, ENV: "PATH=$HOME/bin" must be quoted, or has an unsupported variable`,
		"LABEL title":            `line 1, LABEL: "title" is not KEY=value`,
	} {
		if _, err := parse(strings.NewReader(text)); err == nil || err.Error() != message {
			t.Errorf("%q: %v", text, err)
		}
	}
}
