package stages_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// refreshing is a run that refreshes its cache as fast as it can and keeps
// every generation in dir, until something stops it.
func refreshing(ctx context.Context, dir string) error {
	const samples = 512
	rows := func(g int64) pipeline.Embeddings {
		e := pipeline.MakeEmbeddings(samples, 16)
		for i := range e.Data {
			e.Data[i] = float32(g) + 1
		}
		return e
	}
	cfg := stages.SnapshotConfig{Fingerprint: "numbers", Unscaled: true}
	first, err := stages.SnapshotOf(rows(0), cfg)
	if err != nil {
		return err
	}
	cache, err := stages.NewCache(stages.CacheConfig{First: first, Every: 1, Lag: 1, Store: &storage.Generations{Dir: dir, Data: "numbers"}})
	if err != nil {
		return err
	}
	labels := make([]int32, samples)
	for i := range labels {
		labels[i] = int32(i / 8)
	}
	plan, err := stages.NewPlan(stages.PlanConfig{Labels: labels, P: 4, K: 4, Steps: 1 << 30})
	if err != nil {
		return err
	}
	for b, err := range pipeline.From(plan).Then(&stages.Embed{Cache: cache}).All(ctx) {
		if err != nil {
			return err
		}
		if err := cache.Replace(rows(b.Number+1), cfg); err != nil {
			return err
		}
	}
	return nil
}

// Goal E5: a run that is killed while it refreshes leaves the last generation
// that was kept, whole; what it was writing is never taken for one. 1,000 kills
// in the long run.
func TestKillDuringRefresh(t *testing.T) {
	if dir := os.Getenv("TERCET_TEST_REFRESHING"); dir != "" {
		t.Fatal(refreshing(t.Context(), dir)) // the process that is killed
	}
	self, err := os.Executable()
	if err != nil {
		t.Skipf("needs its own executable: %v", err)
	}
	kills := 12
	if os.Getenv("TERCET_LONG") != "" {
		kills = 1000
	}
	rng := rand.New(rand.NewPCG(1, 2))
	most := 0
	for kill := range kills {
		dir := t.TempDir()
		cmd := exec.Command(self, "-test.run", "^TestKillDuringRefresh$")
		cmd.Env = append(os.Environ(), "TERCET_TEST_REFRESHING="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; { // until the first generation is there
			if names, _ := filepath.Glob(filepath.Join(dir, "generation-*.arrow")); len(names) > 0 || time.Now().After(deadline) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rng.IntN(40000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()

		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		store := &storage.Generations{Dir: dir, Data: "numbers"}
		var newest int
		for _, e := range entries {
			digits, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "generation-"), ".arrow")
			n, err := strconv.Atoi(digits)
			if !ok || err != nil {
				continue // aside
			}
			newest = max(newest, n)
			g, err := store.Load(t.Context(), int32(n))
			if err != nil {
				t.Fatalf("kill %d: generation %d: %v", kill, n, err)
			}
			for _, v := range g.Rows.Data {
				if v != float32(n)+1 || g.Rows.Len() != 512 {
					t.Fatalf("kill %d: generation %d holds %d rows, and %v", kill, n, g.Rows.Len(), v)
				}
			}
		}
		most = max(most, newest)
		state := pipeline.State{Next: int64(newest), Generation: max(0, int32(newest)-2)}
		if _, err := stages.ReopenCache(t.Context(), stages.CacheConfig{Every: 1, Lag: 1, Store: store}, state); err != nil {
			t.Errorf("kill %d: reopen at generation %d: %v", kill, newest, err)
		}
		if err := store.Save(t.Context(), pipeline.Generation{Number: int32(newest + 1), Rows: pipeline.MakeEmbeddings(1, 1)}); err != nil {
			t.Errorf("kill %d: the next run cannot save: %v", kill, err)
		}
	}
	t.Logf("%d kills, at up to generation %d", kills, most)
	if most == 0 {
		t.Error("no process had refreshed anything when it was killed")
	}
}
