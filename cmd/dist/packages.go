package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

// nfpm makes packages for Debian and Red Hat. Newer versions need a newer Go.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0"

const (
	summary    = "MCP stdio proxy to remote, OAuth2-protected MCP servers that manages its own SSH tunnels"
	maintainer = "The sallyport authors <sallyport@localhost>"
)

// nfpmConfig is the file that nfpm reads.
var nfpmConfig = template.Must(template.New("nfpm").Parse(`name: sallyport
arch: {{.Arch}}
platform: linux
version: {{.Version}}
section: net
priority: optional
maintainer: "{{.Maintainer}}"
description: "{{.Summary}}"
license: MIT
recommends: [openssh-client]
mtime: {{.Made}}
contents:
  - {src: "{{.Program}}", dst: /usr/bin/sallyport, file_info: {mode: 0755, mtime: {{.Made}}}}
{{range .Files}}  - {src: "{{.Src}}", dst: "{{.Dst}}", file_info: {mode: 0644, mtime: {{$.Made}}}}
{{end}}`))

// installed says where the files beside the binary go on Linux.
var installed = map[string]string{
	"LICENSE":                    "/usr/share/doc/sallyport/copyright",
	"README.md":                  "/usr/share/doc/sallyport/README.md",
	"CHANGELOG.md":               "/usr/share/doc/sallyport/CHANGELOG.md",
	"man/sallyport.1":            "/usr/share/man/man1/sallyport.1",
	"completions/sallyport.bash": "/usr/share/bash-completion/completions/sallyport",
	"completions/_sallyport":     "/usr/share/zsh/vendor-completions/_sallyport",
	"completions/sallyport.fish": "/usr/share/fish/vendor_completions.d/sallyport.fish",
}

// systemPackages makes a .deb and an .rpm for each Linux.
func (r *release) systemPackages(ctx context.Context, extras []file, work string) error {
	type placed struct{ Src, Dst string }
	var files []placed
	for _, f := range extras {
		if installed[f.name] == "" {
			continue
		}
		src := filepath.Join(work, "extras", filepath.FromSlash(f.name))
		if err := writeFile(src, f.text, 0o644); err != nil {
			return err
		}
		files = append(files, placed{src, installed[f.name]})
	}
	for _, b := range r.built {
		if b.os != "linux" {
			continue
		}
		var config strings.Builder
		err := nfpmConfig.Execute(&config, map[string]any{
			"Arch": b.arch, "Version": r.version, "Maintainer": maintainer, "Summary": summary, "Program": b.path, "Files": files,
			"Made": r.made.Format("2006-01-02T15:04:05Z"),
		})
		if err != nil {
			return err
		}
		path := filepath.Join(work, "nfpm-"+b.arch+".yaml")
		if err := writeFile(path, []byte(config.String()), 0o644); err != nil {
			return err
		}
		for _, kind := range []string{"deb", "rpm"} {
			target := filepath.Join(r.out, fmt.Sprintf("sallyport-%s-%s.%s", r.version, b.platform, kind))
			cmd := exec.CommandContext(ctx, "go", "run", nfpm, "package", "--config", path, "--packager", kind, "--target", target)
			cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.made.Unix()))
			if text, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("nfpm for %s: %w: %s", target, err, text)
			}
		}
	}
	return nil
}

// nodeNames are the words of Node.js for Go's systems and processors.
var nodeNames = map[string]string{"linux": "linux", "darwin": "darwin", "windows": "win32", "amd64": "x64", "arm64": "arm64"}

// npmName is the name of the package with the binary for one platform.
func npmName(p platform) string { return "sallyport-" + nodeNames[p.os] + "-" + nodeNames[p.arch] }

// wrapper is the program of the npm package. It starts the binary of the package for this platform,
// which npm has chosen, and downloads nothing.
const wrapper = `#!/usr/bin/env node
"use strict";
const { spawn } = require("node:child_process");
const name = ` + "`sallyport-${process.platform}-${process.arch}`" + `;
const file = process.platform === "win32" ? "sallyport.exe" : "sallyport";
let program;
try {
  program = require.resolve(` + "`${name}/${file}`" + `);
} catch {
  console.error(` + "`sallyport: there is no package ${name} here`" + `);
  console.error("hint: npm leaves it out with --omit=optional, and there is none for other platforms");
  process.exit(1);
}
const child = spawn(program, process.argv.slice(2), { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (err) => {
  console.error(` + "`sallyport: ${err.message}`" + `);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
`

// npmPackages makes the npm package and, for each platform, one with the binary alone, on which the
// first one depends optionally.
func (r *release) npmPackages(ctx context.Context, work string) error {
	optional := map[string]string{}
	for _, b := range r.built {
		name := npmName(b.platform)
		optional[name] = r.version
		dir := filepath.Join(work, "npm", name)
		program, err := os.ReadFile(b.path)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, b.name()), program, 0o755); err != nil {
			return err
		}
		if err := r.npmPackage(ctx, dir, map[string]any{
			"name": name, "description": "The binary of sallyport for " + b.String(),
			"os": []string{nodeNames[b.os]}, "cpu": []string{nodeNames[b.arch]}, "files": []string{b.name()},
		}); err != nil {
			return err
		}
	}
	dir := filepath.Join(work, "npm", "sallyport")
	if err := writeFile(filepath.Join(dir, "bin", "sallyport.js"), []byte(wrapper), 0o755); err != nil {
		return err
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "README.md"), readme, 0o644); err != nil {
		return err
	}
	return r.npmPackage(ctx, dir, map[string]any{
		"name": "sallyport", "description": summary, "bin": map[string]string{"sallyport": "bin/sallyport.js"},
		"files": []string{"bin"}, "engines": map[string]string{"node": ">=18"}, "optionalDependencies": optional,
		"keywords": []string{"mcp", "model-context-protocol", "oauth2", "ssh", "proxy", "bastion"},
	})
}

// npmPackage writes package.json with the given members into dir, and packs it.
func (r *release) npmPackage(ctx context.Context, dir string, members map[string]any) error {
	members["version"], members["license"] = r.version, "MIT"
	text, err := json.MarshalIndent(members, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "package.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	out, err := filepath.Abs(r.out)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "npm", "pack", "--silent", "--pack-destination", out)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm pack %v: %w: %s", members["name"], err, text)
	}
	return nil
}

// writeFile writes a file and makes the directories above it.
func writeFile(path string, text []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, mode)
}
