// Package pipeline holds the nouns that flow through Tercet and the machinery
// that moves them.
//
// # A run
//
// A [Flow] is a description: a [Source] and the [Stage]s behind it. Ranging
// over [Flow.All] runs it. Each source and stage is one goroutine; values go
// from one to the next over channels; and when the loop ends, by exhaustion,
// break, return, panic, error or cancellation, every one of those goroutines
// has ended before the statement after the loop is reached.
//
//	batches := pipeline.From(plan).Then(embed, miner, fetch, decode)
//	for b, err := range batches.All(ctx) {
//		if err != nil {
//			return err
//		}
//		step(b) // b is yours until the closing brace
//	}
//
// Three rules make that hold, and every source and stage keeps them:
//
//   - Closed means complete; cancelled means not. Only this package closes a
//     channel, and only when the sender has returned nil. A stage that sees
//     its input closed has seen all of it; one that is cancelled gets an error
//     from [Values] or [Send] and returns it.
//   - The first error is the run's error. It cancels the context of all the
//     others, which carries it as its cause.
//   - This package starts every goroutine and joins it. A stage is sequential
//     code between [Values] and [Send]; it asks [Map] or [ForEach] for
//     parallelism and [Background] for work beside the stream. A panic in any
//     of them becomes a [*PanicError].
//
// # What flows
//
// A [Batch] is P·K images, K of each of P classes. It is born in a plan as
// numbers and sample ids and gains embeddings, triplets, records and pixels on
// its way. It has one owner at a time, and its memory is used again when the
// loop body that received it ends: [Batch.Clone] keeps a copy. A [Record] is
// one row of a data set: an encoded image with its label and sample id.
//
// # Reproducibility
//
// What a batch holds is a function of the data, the configuration, the seed
// and the batch's number; never of a worker, a clock or a buffer. So [State],
// a few hundred bytes, is all it takes to go on after any batch.
package pipeline
