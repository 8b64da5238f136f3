// The arm in three dimensions: solid as measured, and as it was told to be as a ghost. Draws when asked, never by itself.

import { OrbitControls, THREE } from "nicegui-scene";

import { local } from "./pose.js";

const BALL_M = 0.02; // radius, at each joint
const GHOST_THIN = 0.9; // inside the solid arm where both agree: what is seen of it is the difference
const UP = new THREE.Vector3(0, 1, 0);
const VIEW_DEG = 40;
const LOOK_ALONG = new THREE.Vector3(0.5, -0.8, 0.42).normalize(); // from the arm to the viewer

const css = (name) => new THREE.Color(getComputedStyle(document.documentElement).getPropertyValue(name).trim());

class Figure {
  /** `materials(limb)`: each limb is drawn once with each of them. */
  constructor(arm, thickness, materials) {
    this.arm = arm;
    this.root = new THREE.Group();
    this.frames = new Map([["base", this.root]]);
    for (const joint of arm.joints) {
      const frame = new THREE.Group();
      frame.matrixAutoUpdate = false;
      this.frames.get(joint.parent).add(frame);
      this.frames.set(joint.name, frame);
    }
    for (const limb of arm.limbs) this.addLimb(limb, thickness, materials(limb));
  }

  addLimb(limb, thickness, materials) {
    const [begin, end] = [limb.begin, limb.end].map((point) => new THREE.Vector3(...point));
    const along = end.clone().sub(begin);
    const geometry = new THREE.CapsuleGeometry(limb.radius_m * thickness, along.length(), 8, 20);
    for (const [order, material] of materials.entries()) {
      const mesh = new THREE.Mesh(geometry, material);
      mesh.position.copy(begin).add(end).multiplyScalar(0.5);
      mesh.quaternion.setFromUnitVectors(UP, along.clone().normalize());
      mesh.renderOrder = order;
      this.frames.get(limb.joint).add(mesh);
    }
  }

  addBalls(material) {
    const geometry = new THREE.SphereGeometry(BALL_M, 24, 16);
    for (const { name } of this.arm.joints) this.frames.get(name).add(new THREE.Mesh(geometry, material));
  }

  /** `angles`: radians by joint, or null: nothing is known and nothing drawn. */
  pose(angles) {
    this.root.visible = angles !== null;
    if (angles === null) return;
    for (const joint of this.arm.joints) this.frames.get(joint.name).matrix.fromArray(local(joint, angles[joint.name]));
    this.root.updateMatrixWorld(true);
  }
}

export class Stage {
  /** `reach`: what is to be in view (pose.js). `changed` is called when a person turned the view. */
  constructor(canvas, arm, reach, changed) {
    this.reach = reach;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
    this.draws = 0;
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(VIEW_DEG, 1, 0.01, 10);
    this.camera.up.set(0, 0, 1);
    this.addLights();
    this.addFloor();
    this.addFigures(arm);
    this.addControls(canvas, changed);
    this.paint("--warn");
  }

  addLights() {
    this.scene.add(new THREE.AmbientLight(0xffffff, 0.7 * Math.PI));
    const light = new THREE.DirectionalLight(0xffffff, 0.6 * Math.PI);
    light.position.set(2, -3, 6);
    this.scene.add(light);
  }

  /** Lines 10 cm apart, as far as the arm reaches. */
  addFloor() {
    this.floor = new THREE.GridHelper(0.8, 8);
    this.floor.rotation.x = Math.PI / 2;
    this.floor.material.vertexColors = false;
    this.scene.add(this.floor);
  }

  addFigures(arm) {
    const solid = () => new THREE.MeshStandardMaterial({ roughness: 0.75 });
    this.materials = { base: solid(), link: solid(), jaw: solid(), ball: solid() };
    const part = (limb) => (limb.joint === "base" ? "base" : limb.radius_m < 0.01 ? "jaw" : "link");
    this.measured = new Figure(arm, 1, (limb) => [this.materials[part(limb)]]);
    this.measured.addBalls(this.materials.ball);
    // Depth first and colour after it: where two of its limbs overlap it is as pale as elsewhere.
    const depth = new THREE.MeshBasicMaterial({ colorWrite: false, transparent: true });
    this.materials.ghost = new THREE.MeshStandardMaterial({ transparent: true, opacity: 0.5, depthWrite: false, roughness: 0.75 });
    this.ghost = new Figure(arm, GHOST_THIN, () => [depth, this.materials.ghost]);
    this.scene.add(this.measured.root, this.ghost.root);
  }

  addControls(canvas, changed) {
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.minDistance = 0.15;
    this.controls.maxDistance = 5;
    this.controls.addEventListener("start", () => (this.turned = true));
    this.controls.addEventListener("change", changed);
    canvas.style.touchAction = "pan-y"; // a thumb that scrolls the page over it goes on scrolling
    const zoom = (event) => (this.controls.enableZoom = event.ctrlKey); // the wheel alone scrolls the page
    canvas.parentElement.addEventListener("wheel", zoom, { capture: true, passive: true });
    canvas.addEventListener("dblclick", () => this.lookAtAll());
  }

  /** Back to the view in which the whole arm is seen throughout the episode. */
  lookAtAll() {
    const upright = (VIEW_DEG / 2) * (Math.PI / 180);
    const half = Math.min(upright, Math.atan(Math.tan(upright) * this.camera.aspect));
    this.controls.target.set(...this.reach.center);
    this.camera.position.copy(LOOK_ALONG).multiplyScalar(this.reach.radius / Math.sin(half)).add(this.controls.target);
    this.controls.update();
    this.turned = false;
  }

  /** Takes its colours from the page's; `ghost` is the name of its one. */
  paint(ghost) {
    const { base, link, jaw, ball } = this.materials;
    link.color = css("--accent");
    jaw.color = css("--accent").lerp(new THREE.Color("#ffffff"), 0.45);
    base.color = css("--faint");
    ball.color = css("--arm-joint");
    this.floor.material.color = css("--line-strong");
    this.materials.ghost.color = css(ghost);
  }

  size(width, height) {
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    if (!this.turned) this.lookAtAll();
  }

  draw(measured, ghost) {
    this.measured.pose(measured);
    this.ghost.pose(ghost);
    this.renderer.render(this.scene, this.camera);
    this.draws += 1;
  }

  close() {
    this.controls.dispose();
    this.renderer.dispose();
    this.renderer.forceContextLoss(); // a browser keeps sixteen at most
  }
}
