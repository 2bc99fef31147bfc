// Export-charts writes the Helm charts that are embedded in Istio's Go module below a directory,
// in the layout of an unpacked Istio release's manifests folder.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"istio.io/istio/manifests"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: export-charts DIRECTORY")
		os.Exit(2)
	}
	if err := export(manifests.FS, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "export-charts:", err)
		os.Exit(1)
	}
}

func export(from fs.FS, to string) error {
	return fs.WalkDir(from, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, filepath.FromSlash(path))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}
