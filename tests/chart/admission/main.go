// Asks Kubernetes' own code whether it would take the objects on standard input (a JSON array): strict decoding, defaults,
// the API server's validation, and for pods the admission check of the Pod Security Standard "restricted". Prints a line for
// each complaint. What has no place in Kubernetes itself (custom resources) is passed over: their CRDs' schemas speak for them.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"k8s.io/pod-security-admission/api"
	podsecurity "k8s.io/pod-security-admission/policy"
)

func main() {
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		fmt.Println("standard input is no JSON array:", err)
		os.Exit(2)
	}
	decoder := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	evaluator, err := podsecurity.NewEvaluator(podsecurity.DefaultChecks(), nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	checked := 0
	for number, raw := range objects {
		versioned, kind, err := decoder.Decode(raw, nil, nil)
		if runtime.IsNotRegisteredError(err) {
			continue
		}
		say := func(what any) { fmt.Printf("%d\t%s: %v\n", number, kind.Kind, what) }
		if err != nil {
			fmt.Printf("%d\t%v\n", number, err)
			continue
		}
		if pod, meta := podOf(versioned); pod != nil {
			for _, result := range evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, meta, pod) {
				if !result.Allowed {
					say(fmt.Sprintf("not restricted: %s: %s", result.ForbiddenReason, result.ForbiddenDetail))
				}
			}
		}
		legacyscheme.Scheme.Default(versioned)
		internal, err := legacyscheme.Scheme.ConvertToVersion(versioned, runtime.InternalGroupVersioner)
		if err != nil {
			say(err)
			continue
		}
		accessor := internal.(metav1.Object)
		if accessor.GetNamespace() == "" && kind.Kind != "Namespace" {
			accessor.SetNamespace("refract")
		}
		complaints, known := validate(internal)
		if !known {
			say("nobody here can validate this kind: teach tests/chart/admission about it")
			continue
		}
		checked++
		for _, complaint := range complaints {
			say(complaint)
		}
	}
	fmt.Fprintf(os.Stderr, "%d\n", checked)
}

func podOf(object runtime.Object) (*corev1.PodSpec, *metav1.ObjectMeta) {
	switch o := object.(type) {
	case *corev1.Pod:
		return &o.Spec, &o.ObjectMeta
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec, &o.Spec.Template.ObjectMeta
	case *batchv1.Job:
		return &o.Spec.Template.Spec, &o.Spec.Template.ObjectMeta
	}
	return nil, nil
}

func validate(object runtime.Object) (field.ErrorList, bool) {
	switch o := object.(type) {
	case *core.Pod:
		return corevalidation.ValidatePodCreate(o, corevalidation.PodValidationOptions{}), true
	case *core.Service:
		// The API server's storage fills this in before it validates.
		if o.Spec.ClusterIP != "" && len(o.Spec.ClusterIPs) == 0 {
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
		return corevalidation.ValidateServiceCreate(o), true
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(o), true
	case *core.Secret:
		return corevalidation.ValidateSecret(o), true
	case *core.ServiceAccount:
		return corevalidation.ValidateServiceAccount(o), true
	case *core.Namespace:
		return corevalidation.ValidateNamespace(o), true
	case *apps.Deployment:
		return appsvalidation.ValidateDeployment(o, corevalidation.PodValidationOptions{}), true
	case *batch.Job:
		// The API server's storage gives the Job and its pods these before it validates.
		o.UID = "00000000-0000-0000-0000-000000000000"
		unique := map[string]string{batch.ControllerUidLabel: string(o.UID)}
		o.Spec.Selector = &metav1.LabelSelector{MatchLabels: unique}
		for key, value := range map[string]string{
			batch.ControllerUidLabel: string(o.UID), batch.LegacyControllerUidLabel: string(o.UID),
			batch.JobNameLabel: o.Name, batch.LegacyJobNameLabel: o.Name,
		} {
			o.Spec.Template.Labels[key] = value
		}
		return batchvalidation.ValidateJobCreate(o, batchvalidation.JobValidationOptions{RequirePrefixedLabels: true}), true
	case *autoscaling.HorizontalPodAutoscaler:
		return autoscalingvalidation.ValidateHorizontalPodAutoscaler(o, autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions{}), true
	case *networking.NetworkPolicy:
		return networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{}), true
	case *policy.PodDisruptionBudget:
		return policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{}), true
	}
	return nil, false
}
