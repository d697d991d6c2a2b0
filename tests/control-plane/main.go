// Command control-plane is the Kubernetes control plane for tests in one binary:
// etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as upstream
// publishes them. The first argument names the component; the rest are that
// component's own flags. One process runs one component, because upstream keeps
// its signal handler and its feature gates in process-wide state.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	if len(os.Args) < 2 {
		usage("")
	}
	component := os.Args[1]
	os.Args = append([]string{component}, os.Args[2:]...)

	var command *cobra.Command
	switch component {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		command = scheduler.NewSchedulerCommand()
	default:
		usage(component)
	}
	os.Exit(cli.Run(command))
}

func usage(component string) {
	if component != "" {
		fmt.Fprintf(os.Stderr, "control-plane: unknown component %q\n", component)
	}
	fmt.Fprintln(os.Stderr, "usage: control-plane etcd|kube-apiserver|kube-controller-manager|kube-scheduler [flags]")
	os.Exit(2)
}
