// Renders kustomizations and charts with the libraries of `kustomize build` and `helm template`, as
// many at a time as are asked for: `render kustomize FOLDER...` or `render helm CHART`, which reads
// a JSON list of releases on stdin. On stdout comes a JSON object of texts by folder, or by release.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// A release, as `helm install NAME CHART --namespace NAMESPACE --values FILE` makes one.
type release struct {
	Name      string         `json:"name"`
	Namespace string         `json:"namespace"`
	Kube      string         `json:"kube"` // version of Kubernetes, such as v1.36.0
	Values    map[string]any `json:"values"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("usage: render kustomize FOLDER... | render helm CHART")
	}
	var found map[string]any
	var err error
	switch arguments[0] {
	case "kustomize":
		found, err = kustomizations(arguments[1:])
	case "helm":
		found, err = releases(arguments[1])
	default:
		err = fmt.Errorf("%s: neither kustomize nor helm", arguments[0])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func kustomizations(folders []string) (map[string]any, error) {
	found := map[string]any{}
	for _, folder := range folders {
		kustomizer := krusty.MakeKustomizer(krusty.MakeDefaultOptions())
		resources, err := kustomizer.Run(filesys.MakeFsOnDisk(), folder)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", folder, err)
		}
		text, err := resources.AsYaml()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", folder, err)
		}
		found[folder] = string(text)
	}
	return found, nil
}

// A release that cannot be made has `error` in place of its files.
func releases(folder string) (map[string]any, error) {
	var wanted map[string]release
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		return nil, err
	}
	found := map[string]any{}
	for key, one := range wanted {
		loaded, err := loader.Load(folder)
		if err != nil {
			return nil, err
		}
		files, err := template(loaded, one)
		if err != nil {
			found[key] = map[string]any{"error": err.Error()}
			continue
		}
		found[key] = map[string]any{"files": files, "lint": complaints(folder, one)}
	}
	return found, nil
}

func template(loaded *chart.Chart, one release) (map[string]string, error) {
	version, err := chartutil.ParseKubeVersion(one.Kube)
	if err != nil {
		return nil, err
	}
	if wants := loaded.Metadata.KubeVersion; wants != "" && !chartutil.IsCompatibleRange(wants, one.Kube) {
		return nil, fmt.Errorf("chart requires kubeVersion: %s, not %s", wants, one.Kube)
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	options := chartutil.ReleaseOptions{
		Name: one.Name, Namespace: one.Namespace, Revision: 1, IsInstall: true,
	}
	values, err := chartutil.ToRenderValues(loaded, one.Values, options, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(loaded, values)
}

// What `helm lint --strict` says, beyond mere information.
func complaints(folder string, one release) []string {
	said := []string{}
	for _, message := range lint.AllWithKubeVersion(folder, one.Values, one.Namespace, nil).Messages {
		if message.Severity >= support.WarningSev {
			said = append(said, message.Error())
		}
	}
	return said
}
