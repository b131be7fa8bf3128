//! Profiling, planning, and running along plans.

use super::Session;
use super::arguments::{ValueSpec, refuse, unknown};
use super::measuring::ProfileOptions;
use super::mode::{FrontPoint, PlanOptions, Planning};
use super::plans::{Choice, Followed};
use super::run_options::RunOptions;
use super::runner::Runner;
use super::step_names::StepNames;
use super::variants::Variant;
use crate::cost::{Profile, StepSignature};
use crate::cpu::RunContext;
use crate::error::{Error, Misfit};
use crate::exec::{Bound, Course, Program};
use crate::graph::fact::TensorFact;
use crate::graph::{Dim, Fact, NodeError};
use crate::plan::{
    AsItIs, BETWEEN, Built, DeviceCosts, DeviceSite, Draft, Forced, Goal, ParetoPoint, Plan, PlanError,
    Planned, PlannedDevice, PlannedInput, Site, build, model_hash, pareto, prepare, random_on_device,
    random_plan,
};
use crate::tensor::ValueRef;
use recurve_scheduler::Budget;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The forms of tensors; `None` where one is no tensor.
pub(super) fn forms_of(specs: &[ValueSpec], values: &[ValueRef<'_>]) -> Option<Vec<PlannedInput>> {
    let form = |(spec, value): (&ValueSpec, &ValueRef<'_>)| {
        let t = value.tensor()?;
        Some(PlannedInput {
            name: spec.name.to_string(),
            dtype: t.dtype().name().to_owned(),
            shape: t.shape().to_vec(),
        })
    };
    specs.iter().zip(values).map(form).collect()
}

/// A variant of which plans are made, for inputs of some shapes.
struct Placeable<'a> {
    variant: &'a Variant,
    bound: Arc<Bound>,
    forced: Vec<Option<Forced>>,
    /// On the device, with much workspace and with little; one `None` where there is no device.
    costs: Vec<Option<DeviceCosts>>,
}

/// What came of planning a model's variants, the best first.
pub(super) struct Plans {
    pub(super) made: Vec<Planned>,
    /// Those of all plans, the ones that were not made among them.
    rewrites: Vec<String>,
    /// Plans that no other beats in bytes of a device's memory and time, where there is a device.
    front: Vec<ParetoPoint>,
}

impl Session {
    /// Measures the operators of the model on these inputs, each on one thread and on all, and what handing work from
    /// thread to thread costs. What the cache of `options` has is not measured again. Times are true only while nothing
    /// else uses the cores.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// use recurve::profiles::{Effort, ProfileOptions};
    /// use std::time::Duration;
    /// let session = Session::builder().with_threads(2).load_bytes(MODEL)?;
    /// let question = Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8])?;
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// // A millisecond for each; the default takes as long as times need to settle.
    /// let effort = Effort { warm: 1, least: 1, most: 9, time: Duration::from_millis(1) };
    /// let profile = session.profile(inputs, &ProfileOptions::default().with_effort(effort))?;
    /// assert!(!profile.operators.is_empty() && profile.check_here().is_ok());
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn profile<'a, V: Into<ValueRef<'a>>>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, V)>,
        options: &ProfileOptions,
    ) -> Result<Profile, Error> {
        self.with_values(inputs, Vec::new(), &options.run, |values, context| {
            let variants = match forms_of(&self.inputs, values) {
                Some(forms) => self.variants(&self.facts_of(&forms)?, |_| true)?,
                None => vec![Variant { rewrite: "none".to_owned(), program: self.cpu_program()?.clone() }],
            };
            let mut profile = self.measure_all(&variants, values, options, context)?;
            let mut own = BTreeSet::new();
            for Variant { program, .. } in &variants {
                let bound = program.bind(values, context).map_err(NodeError::at_run)?;
                let forms = (0..bound.step_count()).filter_map(|step| bound.step_form(program, step));
                own.extend(forms.map(|form| StepSignature::of(&form).0));
            }
            profile.operators.retain(|signature, _| own.contains(signature));
            profile.segments.retain(|steps, _| steps.split(BETWEEN).all(|signature| own.contains(signature)));
            // Of what the cache has, that which was not asked for is left out.
            let gpu = self.devices.usable().filter(|_| !options.is_cpu_alone()).map(|gpu| gpu.to_string());
            Ok(profile.of_cpu_and(gpu.as_deref()))
        })
    }

    /// Places the operators on the engine's threads by `profile`, for inputs of these shapes; inputs that are not named
    /// have what the model declares. Nothing changes for runs until the plan is given to [`Session::follow`].
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// use recurve::profiles::ProfileOptions;
    /// let session = Session::builder().with_threads(2).load_bytes(MODEL)?;
    /// let question = Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8])?;
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// let profile = session.profile(inputs, &ProfileOptions::default())?;
    /// let planning = session.plan(inputs.map(|(name, tensor)| (name, tensor.shape())), &profile)?;
    /// session.follow(&planning.plan)?;
    /// let outputs = session.run(inputs)?; // along the plan
    /// assert_eq!(outputs.tensor("answer")?.as_slice::<i64>(), Some(&[4, 0, 5, 11, 11][..]));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn plan<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
        profile: &Profile,
    ) -> Result<Planning, Error> {
        self.plan_with(shapes, profile, PlanOptions::default())
    }

    /// [`Session::plan`] for what `options` say. With [`SessionBuilder::with_devices`](crate::SessionBuilder::with_devices)
    /// the plan may use a GPU, which need not be here: its costs are those of `profile`.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// use recurve::plans::PlanOptions;
    /// use recurve::profiles::ProfileOptions;
    /// use recurve::settings::Mode;
    /// let session = Session::builder().with_threads(2).load_bytes(MODEL)?;
    /// let question = Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8])?;
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// let profile = session.profile(inputs, &ProfileOptions::default())?;
    /// let options = PlanOptions::default().with_mode(Mode::Latency);
    /// let planning = session.plan_with(inputs.map(|(name, tensor)| (name, tensor.shape())), &profile, options)?;
    /// assert_eq!(planning.plan.workers, 2);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn plan_with<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
        profile: &Profile,
        options: PlanOptions,
    ) -> Result<Planning, Error> {
        let inputs = self.planned_inputs(shapes)?;
        let interrupt = RunOptions::default().interrupt();
        let context = self.context(&interrupt);
        let variants = self.variants(&self.facts_of(&inputs)?, |_| true)?;
        let Plans { made, rewrites, front } =
            self.build_plans(&variants, &inputs, (profile, options.goal()), 1, context)?;
        // Of a model whose shapes change, the best rewrite stays packed though the plan takes none: that is most of what a
        // plan for other shapes would take.
        let changes =
            self.inputs.iter().any(|spec| spec.fact.tensor().is_none_or(|t| t.known_shape().is_none()));
        let rewritten = rewrites.iter().find(|rewrite| *rewrite != "none");
        let rewritten = variants.iter().find(|variant| changes && Some(&variant.rewrite) == rewritten);
        rewritten.into_iter().for_each(|variant| self.rewritten.keep_planned(&variant.program));
        let planned = made.into_iter().next();
        let planned = planned.ok_or_else(|| PlanError::invalid("there is no program"))?;
        // What could not be followed is no plan.
        let variant = variants.iter().find(|variant| variant.rewrite == planned.plan.rewrite);
        if let Some(variant) = variant {
            if variant.rewrite != "none" {
                self.rewritten.keep_planned(&variant.program);
            }
            let bound =
                variant.program.bind_facts(self.facts_of(&inputs)?, context).map_err(NodeError::at_run)?;
            self.check_unplaced(variant, &bound, &planned.plan, profile, context)?;
        }
        let instance = planned.instance.to_json().map_err(PlanError::from)?;
        let point =
            |p: &ParetoPoint| FrontPoint { device_bytes: p.device_bytes, predicted_us: p.predicted_us };
        Ok(Planning { plan: planned.plan, instance, front: front.iter().map(point).collect() })
    }

    /// A valid plan drawn from `seed`, of any of the model's rewrites: see [`crate::testing::random_plan`].
    pub(crate) fn random_plan<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
        seed: u64,
    ) -> Result<Plan, Error> {
        let inputs = self.planned_inputs(shapes)?;
        let options = RunOptions::default();
        let interrupt = options.interrupt();
        let model = model_hash(self.cpu_program()?);
        let facts = self.facts_of(&inputs)?;
        let variants = self.variants(&facts, |_| true)?;
        let Variant { rewrite, program } = &variants[seed as usize % variants.len()];
        let context = self.context(&interrupt);
        let bound = program.bind_facts(facts, context).map_err(NodeError::at_run)?;
        let threads = self.engine.threads();
        let drawn = match self.devices.gpu {
            Some(gpu) => {
                let on = self.devices.program(gpu, program, (&self.engine, &self.budget))?;
                let (workers, name) = ((threads - 1).max(1), gpu.to_string());
                random_on_device(&bound, program, workers, (&name, on.device()), seed, context)?
            }
            None => random_plan(&bound, program, threads, seed)?,
        };
        Ok(Plan { model, rewrite: rewrite.clone(), inputs, ..drawn })
    }

    fn planned_inputs<'a, S: AsRef<[usize]>>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, S)>,
    ) -> Result<Vec<PlannedInput>, Error> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        let mut given: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (name, shape) in shapes {
            if !self.inputs.iter().any(|spec| &*spec.name == name) {
                return Err(Error::from(unknown("input", name, &self.inputs)));
            }
            given.insert(name, shape.as_ref().to_vec());
        }
        for spec in &self.inputs {
            let Fact::Tensor(fact) = &spec.fact else {
                return Err(PlanError::DependsOnData { node: spec.name.to_string() }.into());
            };
            let declared = || fact.known_shape().map(|shape| shape.to_vec());
            let shape = given.remove(&*spec.name).or_else(declared);
            let shape = shape.ok_or_else(|| Error::from(misfit_shape(&spec.name)))?;
            inputs.push(PlannedInput {
                name: spec.name.to_string(),
                dtype: fact.dtype.name().to_owned(),
                shape,
            });
        }
        Ok(inputs)
    }

    /// Lets runs with inputs of the plan's shapes follow it. The plan is checked first: one for another model or number of
    /// threads, or one by which a result could be wrong, is refused.
    ///
    /// # Example
    /// ```
    /// # const MODEL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/addition/addition.onnx"));
    /// use recurve::{Session, Tensor};
    /// use recurve::profiles::ProfileOptions;
    /// let session = Session::builder().with_threads(2).load_bytes(MODEL)?;
    /// let question = Tensor::new(&[6, 1], vec![3i64, 4, 7, 10, 5, 8])?;
    /// let state = Tensor::new(&[1, 1, 128], vec![0f32; 128])?;
    /// let inputs = [("question", &question), ("h", &state), ("c", &state)];
    /// let shapes = || inputs.map(|(name, tensor)| (name, tensor.shape()));
    /// let profile = session.profile(inputs, &ProfileOptions::default())?;
    /// let mut plan = session.plan(shapes(), &profile)?.plan;
    /// session.follow(&plan)?;
    /// assert!(session.followed(shapes()).is_some());
    /// plan.model = "another".to_owned();
    /// assert!(session.follow(&plan).is_err(), "it is for another model");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn follow(&self, plan: &Plan) -> Result<(), Error> {
        let options = RunOptions::default();
        let interrupt = options.interrupt();
        let variants = self.variants(&self.facts_of(&plan.inputs)?, |name| name == plan.rewrite)?;
        let followed = self.check_plan(&variants, plan, self.context(&interrupt))?;
        self.plans.add(Choice::Follow(Arc::new(followed)));
        Ok(())
    }

    pub(super) fn context<'a>(&'a self, interrupt: &'a crate::exec::Interrupt) -> RunContext<'a> {
        RunContext { team: &self.engine.0.team, interrupt, budget: &self.budget, times: None }
    }

    pub(super) fn cpu_program(&self) -> Result<&Arc<Program>, PlanError> {
        match &self.runner {
            Runner::Cpu(program) => Ok(program),
            Runner::Gpu { device, .. } => Err(PlanError::Device { device: device.to_string() }),
        }
    }

    pub(super) fn facts_of(&self, inputs: &[PlannedInput]) -> Result<Vec<Fact>, Error> {
        let fits = inputs.len() == self.inputs.len();
        let other = |what: String| Error::from(PlanError::Other { what });
        if !fits {
            return Err(other(format!(
                "a model of {} inputs instead of {}",
                inputs.len(),
                self.inputs.len()
            )));
        }
        let fact = |(spec, input): (&ValueSpec, &PlannedInput)| {
            let declared =
                spec.fact.tensor().filter(|t| t.dtype.name() == input.dtype && *spec.name == *input.name);
            let declared = declared.ok_or_else(|| other(format!("an input {input}")))?;
            let fits = declared.shape.as_ref().is_none_or(|dims| {
                let mut pairs = dims.iter().zip(&input.shape);
                dims.len() == input.shape.len() && pairs.all(|(d, n)| d.known().is_none_or(|k| k == *n))
            });
            if !fits {
                let expected = declared.shape.as_deref().unwrap_or_default();
                let problem = format!("cannot have shape {:?}; {expected:?} is expected", input.shape);
                return Err(refuse("input", &input.name, problem));
            }
            let mut known = TensorFact::known(declared.dtype, &input.shape);
            known.shape = Some(input.shape.iter().map(|&n| Dim::Known(n)).collect());
            Ok(known.into())
        };
        self.inputs.iter().zip(inputs).map(fact).collect()
    }

    /// Most bytes of a GPU's memory: the session's own, and the engine's, which others share.
    fn gpu_limit(&self) -> Option<usize> {
        let shared = Some(self.engine.0.gpu_memory_limit).filter(|&bytes| bytes < usize::MAX);
        self.devices.limit.into_iter().chain(shared).min()
    }

    /// The best plans of the variants, by the predicted times, at most so many; the others are not made in full.
    pub(super) fn build_plans(
        &self,
        variants: &[Variant],
        inputs: &[PlannedInput],
        (profile, goal): (&Profile, Goal),
        most: usize,
        context: RunContext<'_>,
    ) -> Result<Plans, Error> {
        let facts = self.facts_of(inputs)?;
        let own = self.cpu_program()?;
        let (model, profile_hash) = (model_hash(own), profile.hash());
        let names = StepNames::new(own.graph(), &self.fusion);
        let (gpu, limit) = (self.devices.usable(), self.gpu_limit().map(|bytes| bytes as u64));
        // Where memory counts, what takes less of it for a longer time may be the better plan.
        let tries_lean = gpu.is_some() && (limit.is_some() || goal.slo_us.is_some());
        let tries_bringing = tries_lean || (gpu.is_some() && goal.curve);
        // One search for the threads, and those with the GPU; all again where it does with little, or is brought weights.
        let ways = (1 + usize::from(tries_lean)) * (1 + usize::from(tries_bringing));
        let searches = (1 + gpu.map_or(0, |_| goal.searches())) * ways * variants.len().max(1);
        let part = |all: Duration| Budget::Time(all / searches as u32);
        let search = goal.budget.map_or(SEARCH, part);
        let placeable = |variant| -> Result<Placeable<'_>, Error> {
            let variant: &Variant = variant;
            let program = &variant.program;
            let bound = program.bind_facts(facts.clone(), context).map_err(NodeError::at_run)?;
            let forced = self.devices.forced(&names, &bound, program)?;
            let mut costs = vec![None];
            if let Some(gpu) = gpu {
                let name = gpu.to_string();
                let of = |lean| DeviceCosts::new(&name, &bound, program, profile, (lean, context));
                costs = vec![Some(of(false).ok_or(PlanError::UnknownDevice { device: name.clone() })?)];
                costs.extend(tries_lean.then(|| of(true)).flatten().map(Some));
            }
            Ok(Placeable { variant, bound, forced, costs })
        };
        let placeable = variants.iter().map(placeable).collect::<Result<Vec<_>, _>>()?;
        let sites = placeable.iter().flat_map(|Placeable { variant, bound, forced, costs }| {
            let kept = costs.iter().map(|costs| (costs, false));
            let can = |costs: &&Option<DeviceCosts>| costs.as_ref().is_some_and(DeviceCosts::can_bring);
            let brought =
                costs.iter().filter(move |costs| tries_bringing && can(costs)).map(|costs| (costs, true));
            kept.chain(brought).map(|(costs, brings)| Site {
                goal,
                device: costs.as_ref().map(|costs| DeviceSite { costs, forced, limit, brings }),
                bound,
                program: &variant.program,
                model: &model,
                profile,
                profile_hash: &profile_hash,
                rewrite: &variant.rewrite,
                inputs,
                workers: self.engine.threads(),
                spin: self.engine.0.team.spin(),
                search,
            })
        });
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        let mut unmet: Option<PlanError> = None;
        let mut own_times: Option<AsItIs> = None;
        // Where the fastest alone is wanted, what cannot be faster than a plan that is there is not searched.
        let fastest = most == 1 && gpu.is_none() && goal.slo_us.is_none();
        let mut hopeless: Vec<String> = Vec::new();
        for site in sites {
            let prepared = prepare(site);
            let best_us = drafts.iter().map(Draft::predicted_us).reduce(f64::min).filter(|_| fastest);
            if let (Ok(prepared), Some(best_us)) = (&prepared, best_us)
                && prepared.bound_us() >= best_us
            {
                hopeless.push(site.rewrite.to_owned());
                continue;
            }
            // What was measured may not suffice for every rewrite.
            let Built { as_it_is, planned } = match prepared.and_then(build) {
                Err(PlanError::Unmeasured { .. }) if own_times.is_some() => continue,
                made => made?,
            };
            // The model as it is is the first variant.
            own_times.get_or_insert(as_it_is);
            match planned {
                Err(error @ (PlanError::Slo { .. } | PlanError::NothingFits { .. })) => {
                    unmet = Some(match unmet.take() {
                        Some(other) => nearer(other, error),
                        None => error,
                    });
                }
                planned => drafts.push(planned?),
            }
        }
        if let (true, Some(error)) = (drafts.is_empty(), unmet) {
            return Err(error.into());
        }
        let bytes = |draft: &Draft<'_>| goal.slo_us.map_or(0, |_| draft.device_bytes());
        drafts.sort_by(|a, b| bytes(a).cmp(&bytes(b)).then(a.predicted_us().total_cmp(&b.predicted_us())));
        let rewrites = drafts.iter().map(|draft| draft.rewrite().to_owned()).chain(hopeless).collect();
        let front = pareto(drafts.iter().flat_map(|draft| draft.front().iter().copied()).collect());
        let Some(as_it_is) = own_times else { return Err(PlanError::invalid("there is no program").into()) };
        let made = drafts.into_iter().take(most).map(|draft| draft.finish(as_it_is));
        Ok(Plans { made: made.collect::<Result<_, _>>()?, rewrites, front })
    }

    pub(super) fn check_plan(
        &self,
        variants: &[Variant],
        plan: &Plan,
        context: RunContext<'_>,
    ) -> Result<Followed, Error> {
        let model = model_hash(self.cpu_program()?);
        let other = |what: String| Error::from(PlanError::Other { what });
        if plan.model != model {
            return Err(other(format!("the model {}; this is {model}", plan.model)));
        }
        if plan.device.is_none() && plan.workers != self.engine.threads() {
            let here = self.engine.threads();
            return Err(other(format!("{} threads; the engine has {here}", plan.workers)));
        }
        let facts = self.facts_of(&plan.inputs)?;
        let variant = variants.iter().find(|v| v.rewrite == plan.rewrite);
        let variant = variant.ok_or_else(|| other(format!("the rewrite `{}`", plan.rewrite)))?;
        let program = variant.program.clone();
        let bound = program.bind_facts(facts, context).map_err(NodeError::at_run)?;
        self.check_demands(&bound, &program, plan)?;
        if let Some(planned) = &plan.device {
            return self.check_placed(variant, bound, plan, planned, context);
        }
        let spin = self.engine.0.team.spin();
        let phases = plan.phases.clone();
        let course = Course::check(&bound, &program, phases, &plan.offsets, plan.workers, spin)?;
        let (rewrite, inputs) = (plan.rewrite.clone(), plan.inputs.clone());
        Ok(Followed { rewrite, inputs, bound, course, program, device: None, late: None })
    }
}

impl Session {
    /// Refuses a plan that does not keep to what the user says of where nodes run and of the GPU's memory.
    fn check_demands(&self, bound: &Bound, program: &Program, plan: &Plan) -> Result<(), Error> {
        let there = plan.device.as_ref();
        let names = StepNames::new(self.cpu_program()?.graph(), &self.fusion);
        for (step, forced) in self.devices.forced(&names, bound, program)?.into_iter().enumerate() {
            let on_device = there.is_some_and(|device| device.steps.contains(&step));
            // What was wanted on a GPU that is lost runs without it.
            let forced = forced.filter(|f| *f == Forced::Cpu || self.devices.usable().is_some());
            if forced.is_some_and(|forced| (forced == Forced::Device) != on_device) {
                let (name, place) = (bound.step_name(program, step).0, if on_device { "GPU" } else { "CPU" });
                let what = format!("the plan has `{name}` on the {place}");
                return Err(PlanError::Placement { what }.into());
            }
        }
        let taken = there.map_or(0, PlannedDevice::bytes);
        match self.gpu_limit() {
            Some(limit) if taken > limit => {
                let what = format!("{taken} bytes of the GPU's memory; the limit is {limit}");
                Err(PlanError::Other { what }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Moves that the scheduler evaluates: a few hundred steps take some tenths of a second.
const SEARCH: Budget = Budget::Evaluations(20_000);
fn misfit_shape(name: &str) -> Misfit {
    let problem = "has dimensions that are not bound; a plan is for known shapes".to_owned();
    Misfit { role: "input", name: name.to_owned(), problem }
}

/// Of two reasons why there is no plan, the one that is nearer to one: an objective that is not met, by the least time,
/// before a limit that is not kept, by the least bytes.
fn nearer(a: PlanError, b: PlanError) -> PlanError {
    let least = |error: &PlanError| match error {
        PlanError::Slo { best_us, .. } => (*best_us, 0),
        PlanError::NothingFits { least_bytes, .. } => (f64::INFINITY, *least_bytes),
        _ => (f64::INFINITY, usize::MAX),
    };
    if least(&b) < least(&a) { b } else { a }
}
