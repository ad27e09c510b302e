package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/CycloneDX/cyclonedx-go"
)

// bundles makes an MCP bundle (.mcpb) for each platform: a zip file with a manifest and the binary,
// whose settings the MCP host asks the person for.
func (r *release) bundles() error {
	for _, b := range r.built {
		program, err := os.ReadFile(b.path)
		if err != nil {
			return err
		}
		manifest, err := json.MarshalIndent(r.bundleManifest(b), "", "  ")
		if err != nil {
			return err
		}
		text, err := zipped([]file{
			{"manifest.json", 0o644, append(manifest, '\n')},
			{"server/" + b.name(), 0o755, program},
		}, r.made)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("sallyport-%s-%s.mcpb", r.version, b.platform)
		if err := os.WriteFile(filepath.Join(r.out, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bundleManifest is the manifest of the bundle for one platform, in version 0.3 of its format.
func (r *release) bundleManifest(b binary) map[string]any {
	setting := func(title, description string, required bool) map[string]any {
		return map[string]any{"type": "string", "title": title, "description": description, "required": required, "default": ""}
	}
	upstream := setting("URL", "The MCP server's real URL, such as https://mcp.internal/mcp", true)
	delete(upstream, "default")
	return map[string]any{
		"manifest_version": "0.3", "name": "sallyport", "display_name": "sallyport", "version": r.version,
		"description": summary, "author": map[string]string{"name": "The sallyport authors"}, "license": "MIT",
		"server": map[string]any{
			"type": "binary", "entry_point": "server/" + b.name(),
			"mcp_config": map[string]any{
				"command": "${__dirname}/server/" + b.name(), "args": []string{},
				"env": map[string]string{"UPSTREAM_URL": "${user_config.url}", "SALLYPORT_VIA": "${user_config.via}",
					"SALLYPORT_PROFILE": "${user_config.profile}"},
			},
		},
		"user_config": map[string]any{
			"url":     upstream,
			"via":     setting("SSH host", "The bastion in front of it: a Host of your ssh_config, or [user@]host[:port]. Empty: none", false),
			"profile": setting("Account", "Keeps several accounts of one server apart. Empty: the default one", false),
		},
		"compatibility": map[string]any{"platforms": []string{nodeNames[b.os]}},
	}
}

// materials writes the list of the modules that the binaries are built from (a software bill of
// materials in CycloneDX 1.6).
func (r *release) materials() error {
	info, err := buildinfo.ReadFile(r.built[0].path)
	if err != nil {
		return err
	}
	component := func(path, version string) cyclonedx.Component {
		url := fmt.Sprintf("pkg:golang/%s@%s", path, version)
		return cyclonedx.Component{Type: cyclonedx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url, BOMRef: url}
	}
	components := []cyclonedx.Component{component("std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		components = append(components, component(module.Path, module.Version))
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: r.made.Format("2006-01-02T15:04:05Z"),
		Component: &cyclonedx.Component{Type: cyclonedx.ComponentTypeApplication, Name: "sallyport", Version: r.version, BOMRef: "sallyport"},
	}
	bom.Components = &components
	var b bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&b, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, fmt.Sprintf("sallyport-%s.cdx.json", r.version)), b.Bytes(), 0o644)
}

// templates are the manifests of other package managers, by the path of the file in the results.
var templates = map[string]string{
	"homebrew/sallyport.rb": `class Sallyport < Formula
  desc "{{.Summary}}"
  homepage "{{.URL}}"
  version "{{.Version}}"
  license "MIT"

{{range $os, $name := .Systems}}  on_{{$name}} do
{{range $arch, $cpu := $.Processors}}{{with $.Binary $os $arch}}    on_{{$cpu}} do
      url "{{$.URL}}/{{.Archive}}"
      sha256 "{{.Sum}}"
    end
{{end}}{{end}}  end

{{end}}  def install
    bin.install "sallyport"
    man1.install "man/sallyport.1"
    bash_completion.install "completions/sallyport.bash" => "sallyport"
    zsh_completion.install "completions/_sallyport"
    fish_completion.install "completions/sallyport.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/sallyport --version")
  end
end
`,
	"scoop/sallyport.json": `{
  "version": "{{.Version}}",
  "description": "{{.Summary}}",
  "homepage": "{{.URL}}",
  "license": "MIT",
  "architecture": {
    "64bit": {{with .Binary "windows" "amd64"}}{
      "url": "{{$.URL}}/{{.Archive}}",
      "hash": "{{.Sum}}",
      "extract_dir": "{{.Folder}}"
    }{{end}},
    "arm64": {{with .Binary "windows" "arm64"}}{
      "url": "{{$.URL}}/{{.Archive}}",
      "hash": "{{.Sum}}",
      "extract_dir": "{{.Folder}}"
    }{{end}}
  },
  "bin": "sallyport.exe"
}
`,
	"winget/sallyport.sallyport.yaml": `PackageIdentifier: sallyport.sallyport
PackageVersion: {{.Version}}
DefaultLocale: en-US
ManifestType: version
ManifestVersion: 1.6.0
`,
	"winget/sallyport.sallyport.locale.en-US.yaml": `PackageIdentifier: sallyport.sallyport
PackageVersion: {{.Version}}
PackageLocale: en-US
Publisher: The sallyport authors
PackageName: sallyport
License: MIT
ShortDescription: {{.Summary}}
ManifestType: defaultLocale
ManifestVersion: 1.6.0
`,
	"winget/sallyport.sallyport.installer.yaml": `PackageIdentifier: sallyport.sallyport
PackageVersion: {{.Version}}
InstallerType: zip
NestedInstallerType: portable
Installers:
{{range $arch, $name := .WindowsProcessors}}{{with $.Binary "windows" $arch}}  - Architecture: {{$name}}
    InstallerUrl: {{$.URL}}/{{.Archive}}
    InstallerSha256: {{.Sum}}
    NestedInstallerFiles:
      - RelativeFilePath: {{.Folder}}\sallyport.exe
        PortableCommandAlias: sallyport
{{end}}{{end}}ManifestType: installer
ManifestVersion: 1.6.0
`,
	"server.json": `{
  "name": "io.github.sallyport/sallyport",
  "description": "{{.Summary}}",
  "version": "{{.Version}}",
  "packages": [
    {
      "registryType": "npm",
      "identifier": "sallyport",
      "version": "{{.Version}}",
      "transport": {"type": "stdio"},
      "environmentVariables": [
        {"name": "UPSTREAM_URL", "description": "The MCP server's real URL", "isRequired": true},
        {"name": "SALLYPORT_VIA", "description": "The SSH host in front of it"}
      ]
    }
  ]
}
`,
}

// manifestData is what the templates see.
type manifestData struct {
	// Version is that of the release, Summary what the program is, and URL where the files are.
	Version, Summary, URL string
	// Systems and Processors are Homebrew's words for those of Go, and WindowsProcessors winget's.
	Systems, Processors map[string]string
	WindowsProcessors   map[string]string
	// built are the binaries, for Binary.
	built []binary
}

// manifestBinary is one binary as the templates see it.
type manifestBinary struct{ Archive, Sum, Folder string }

// Binary returns the binary of one platform, or nil if there is none.
func (d manifestData) Binary(system, arch string) *manifestBinary {
	for _, b := range d.built {
		if b.os == system && b.arch == arch {
			folder := strings.TrimSuffix(strings.TrimSuffix(b.archive, ".zip"), ".tar.gz")
			return &manifestBinary{Archive: b.archive, Sum: b.sum, Folder: folder}
		}
	}
	return nil
}

// manifests writes the manifests into a folder of the results.
func (r *release) manifests() error {
	data := manifestData{
		Version: r.version, Summary: summary, URL: strings.TrimSuffix(r.baseURL, "/"), built: r.built,
		Systems:           map[string]string{"darwin": "macos", "linux": "linux"},
		Processors:        map[string]string{"amd64": "intel", "arm64": "arm"},
		WindowsProcessors: map[string]string{"amd64": "x64", "arm64": "arm64"},
	}
	for path, text := range templates {
		t, err := template.New(path).Parse(text)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, data); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(r.out, "manifests", filepath.FromSlash(path)), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
