package stages

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// Goal D6: a state of a plan with one other setting is refused by name. A
// setting that is added fails this test until it is said what it decides.
func TestEveryPlanSettingIsInTheState(t *testing.T) {
	said := map[string]bool{}
	small := resumeConfig // for which less than all images will do
	small.P, small.K = 3, 2
	windowed := small
	windowed.Window, windowed.Layout = 1500, layoutOf(len(small.Labels), 1, 10)
	for name, tt := range map[string]struct {
		base   PlanConfig
		change func(*PlanConfig)
		field  string // of the state; "" for what decides no content
	}{
		"Window": {small, func(c *PlanConfig) { c.Window, c.Layout = windowed.Window, windowed.Layout }, "config"},
		"Layout": {windowed, func(c *PlanConfig) { c.Layout = layoutOf(len(c.Labels), 2, 10) }, "config"},
		"Labels": {resumeConfig, func(c *PlanConfig) { c.Labels = slices.Clone(c.Labels); c.Labels[7] = 2 }, "data"},
		"Data":   {resumeConfig, func(c *PlanConfig) { c.Data = "another" }, "data"},
		"P":      {resumeConfig, func(c *PlanConfig) { c.P-- }, "config"},
		"K":      {resumeConfig, func(c *PlanConfig) { c.K++ }, "config"},
		"Short":  {resumeConfig, func(c *PlanConfig) { c.Short = Drop }, "config"},
		"Seed":   {resumeConfig, func(c *PlanConfig) { c.Seed ^= 1 << 63 }, "seed"},
		"Steps":  {resumeConfig, func(c *PlanConfig) { c.Steps-- }, "config"},
		"Config": {resumeConfig, func(c *PlanConfig) { c.Config += "x" }, "config"},
		"Rank":   {resumeConfig, func(c *PlanConfig) { c.World = 3; c.Rank = 2 }, ""},
		"World":  {resumeConfig, func(c *PlanConfig) { c.World = 8 }, ""},
	} {
		if _, there := reflect.TypeFor[PlanConfig]().FieldByName(name); !there {
			t.Errorf("PlanConfig has no %s", name)
		}
		state := newTestPlan(t, tt.base).stateAt(17)
		cfg := tt.base
		tt.change(&cfg)
		_, err := newTestPlan(t, cfg).At(state)
		var refused *pipeline.StateError
		if tt.field == "" && err != nil || tt.field != "" && (!errors.As(err, &refused) || refused.Field != tt.field) {
			t.Errorf("another %s: %v, want an error that names %q", name, err, tt.field)
		}
		said[name] = true
	}
	for field := range reflect.TypeFor[PlanConfig]().Fields() {
		if !said[field.Name] {
			t.Errorf("PlanConfig.%s: say here which field of the state it is in", field.Name)
		}
	}
}

// What is mined is a function of MineConfig: every setting in it gives another
// digest, for PlanConfig.Config.
func TestEveryMineSettingIsInItsDigest(t *testing.T) {
	base := MineConfig{Loss: loss.TripletMargin{Margin: 0.5}, Pick: Pick{By: ByRank, First: 1, Last: 3}}
	seen := map[string]string{pipeline.Digest("mine", base): "nothing"}
	var change func(path string, v reflect.Value, whole *MineConfig)
	change = func(path string, v reflect.Value, whole *MineConfig) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				change(path+"."+v.Type().Field(i).Name, v.Field(i), whole)
			}
			return
		case reflect.Bool:
			v.SetBool(!v.Bool())
			defer v.SetBool(!v.Bool())
		case reflect.Int, reflect.Int64, reflect.Int32:
			v.SetInt(v.Int() + 1)
			defer v.SetInt(v.Int() - 1)
		case reflect.Uint8, reflect.Uint64:
			v.SetUint(v.Uint() + 1)
			defer v.SetUint(v.Uint() - 1)
		case reflect.Float64:
			v.SetFloat(v.Float() + 1)
			defer v.SetFloat(v.Float() - 1)
		default:
			t.Fatalf("MineConfig%s is a %v: teach this test about it", path, v.Kind())
		}
		d := pipeline.Digest("mine", *whole)
		if other, there := seen[d]; there {
			t.Errorf("another %s gives the digest of another %s", path, other)
		}
		seen[d] = path
	}
	cfg := base
	change("MineConfig", reflect.ValueOf(&cfg).Elem(), &cfg)
	if fmt.Sprint(cfg) != fmt.Sprint(base) || len(seen) < 15 {
		t.Errorf("%d settings were changed, and left are %+v", len(seen)-1, cfg)
	}
}
