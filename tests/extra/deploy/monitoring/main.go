// Reads PodMonitors and PrometheusRules, one JSON object a line on stdin, into the operator's own
// types, and says what those do not know.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

const longestLine = 16 << 20

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	status := 0
	for lines.Scan() {
		if err := read(lines.Bytes()); err != nil {
			fmt.Println(err)
			status = 1
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Println(err)
		status = 1
	}
	os.Exit(status)
}

func read(line []byte) error {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return err
	}
	kinds := map[string]any{
		"PodMonitor":     &monitoring.PodMonitor{},
		"ServiceMonitor": &monitoring.ServiceMonitor{},
		"PrometheusRule": &monitoring.PrometheusRule{},
	}
	object, isKnown := kinds[head.Kind]
	if !isKnown || head.APIVersion != monitoring.SchemeGroupVersion.String() {
		return fmt.Errorf("%s %s is none of the operator's", head.APIVersion, head.Kind)
	}
	strictly := json.NewDecoder(bytes.NewReader(line))
	strictly.DisallowUnknownFields()
	if err := strictly.Decode(object); err != nil {
		return fmt.Errorf("%s: %w", head.Kind, err)
	}
	return nil
}
