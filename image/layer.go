package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layer packs a directory or file of the context reproducibly: sorted names, owner root, a fixed time, and of the modes only
// the executable bit.
func layer(context string, item copyInstruction, at time.Time) (v1.Layer, error) {
	var packed bytes.Buffer
	if err := pack(&packed, filepath.Join(context, item.from), item.to, at); err != nil {
		return nil, fmt.Errorf("packing %s: %w", item.from, err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

func pack(to io.Writer, from, destination string, at time.Time) error {
	archive := tar.NewWriter(to)
	// Adds the parent directories. Names in an archive have no leading slash.
	destination = strings.Trim(path.Clean(destination), "/")
	parts := strings.Split(destination, "/")
	for depth := 1; depth < len(parts); depth++ {
		if err := header(archive, path.Join(parts[:depth]...)+"/", 0o755, 0, at); err != nil {
			return err
		}
	}
	// WalkDir visits names in lexical order.
	err := filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		within, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		return addEntry(archive, name, path.Join(destination, filepath.ToSlash(within)), entry, at)
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

func addEntry(archive *tar.Writer, name, destination string, entry fs.DirEntry, at time.Time) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	switch {
	case entry.IsDir():
		return header(archive, destination+"/", 0o755, 0, at)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a directory nor a regular file", name)
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if err := header(archive, destination, mode, info.Size(), at); err != nil {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(archive, file)
	return err
}

func header(archive *tar.Writer, name string, mode, size int64, at time.Time) error {
	kind := byte(tar.TypeReg)
	if strings.HasSuffix(name, "/") {
		kind = tar.TypeDir
	}
	return archive.WriteHeader(&tar.Header{
		Typeflag: kind, Name: name, Mode: mode, Size: size, ModTime: at, Format: tar.FormatPAX,
	})
}
